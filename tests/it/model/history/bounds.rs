//! Moves the clock to an instant at which something ends, or a millisecond beside it, and asks what changes there.

use super::{Checked, HOUR, History};
use crate::model::{
    rules::{Change, DAY, HERE, Key, SECOND, WINDOW},
    steps::{Bound, Caller, Settings},
};

impl History {
    pub(super) fn reach(
        &mut self,
        bound: Bound,
        choice: usize,
        beside: i64,
        by_wall: bool,
    ) -> Checked {
        if self.bounds(bound).is_empty() {
            self.make(bound, choice % self.model.keys.len())?;
        }
        let bounds = self.bounds(bound);
        let Some(chosen) = choice.checked_rem(bounds.len()) else { return Ok(()) };
        let (subject, at) = bounds[chosen];
        if let Bound::Window = bound {
            self.use_up(subject)?;
        }
        self.move_to(at.strict_add_signed(beside), by_wall);
        self.check_verdicts()?;
        self.check_lists()?;
        match bound {
            Bound::Active => Ok(()),
            Bound::Window => self.verify((subject, self.newest(subject)), "", HERE),
            Bound::Answer => self.repeat(subject, true),
            Bound::Grace => {
                let made = self.creations.iter().position(|it| it.key == subject);
                made.map_or(Ok(()), |it| self.repeat(it, true))?;
                self.complete(subject, Caller::Operator)?;
                self.run("end_graces");
                Ok(())
            }
            Bound::Key => {
                self.rotate(subject, Caller::Operator, None)?;
                self.run("expire_keys");
                Ok(())
            }
        }
    }

    /// Tries to give a key such a bound, where no key has one.
    fn make(&mut self, bound: Bound, key: usize) -> Checked {
        let by = Caller::Operator;
        match bound {
            Bound::Grace => self.rotate(key, by, Some(60)),
            Bound::Key => self.update(key, by, Change::End(Some(60))),
            Bound::Active => self.update(key, by, Change::End(Some(8 * DAY / SECOND))),
            Bound::Window | Bound::Answer => {
                let limit = Some(1);
                let settings =
                    Settings { scopes: &["orders:read"], lifetime: None, list: 0, limit };
                self.create(self.model.keys[key].account, by, &settings)
            }
        }
    }

    /// Returns each key, or each creation, that has such a bound in the future.
    fn bounds(&self, bound: Bound) -> Vec<(usize, u64)> {
        let now = self.model.now;
        let of_key = |key: &Key| match bound {
            Bound::Grace => key.in_grace(now).filter_map(|it| key.end_of_grace(it)).min(),
            Bound::Key => key.expires_at,
            Bound::Active => key.expires_at.and_then(|it| it.checked_sub(7 * DAY)),
            Bound::Window => key.limit.map(|_| (now / (WINDOW * SECOND) + 1) * WINDOW * SECOND),
            Bound::Answer => None,
        };
        let is_ahead = |at: &u64| now < *at;
        if let Bound::Answer = bound {
            let ends = self.creations.iter().map(|it| it.at + DAY).enumerate();
            return ends.filter(|(_, at)| is_ahead(at)).collect();
        }
        let keys = self.model.keys.iter().enumerate().filter(|(_, it)| it.is_listed());
        keys.filter_map(|(number, key)| Some((number, of_key(key).filter(is_ahead)?))).collect()
    }

    fn newest(&self, key: usize) -> usize {
        self.model.keys[key].credentials.len() - 1
    }

    /// Uses up the rate limit of a key, so that its next window makes a difference.
    fn use_up(&mut self, key: usize) -> Checked {
        for _ in 0..self.model.keys[key].limit.unwrap_or_default() {
            self.verify((key, self.newest(key)), "", HERE)?;
        }
        Ok(())
    }

    /// Moves keyward's time. The wall clock alone does it if it is right and goes ahead by an hour at most.
    fn move_to(&mut self, at: u64, by_wall: bool) {
        let by = at.saturating_sub(self.model.now);
        if by_wall && self.behind == 0 && by <= HOUR {
            self.server.clock.step_wall(by.cast_signed());
            self.model.now += by;
        } else {
            self.pass(by);
        }
    }
}
