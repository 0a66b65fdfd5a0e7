//! The places of credentials in the token status list, as the table `token_status` has them.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use papaya::HashMap;

use super::{Image, KeyEntry, KeyIndex};
use crate::{
    domain::plaintext_key::KeyPrefix,
    env::Timestamp,
    store::{ReadTx, StoreError, tx::Touched},
};

/// The state of a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatusPlace {
    /// The tokens of this credential have it.
    Given(KeyPrefix),
    /// Tokens with it may be outstanding, and are refused.
    Retired(Timestamp),
    /// No token has it.
    Free,
}

#[derive(Debug, Default)]
pub(super) struct StatusPlaces {
    states: HashMap<u32, StatusPlace>,
    given: HashMap<KeyPrefix, u32>,
    changes: AtomicU64,
}

impl StatusPlaces {
    /// Sets the state of a place. Only the writer calls this.
    pub fn set(&self, place: u32, state: StatusPlace) {
        let (states, given) = (self.states.pin(), self.given.pin());
        if let Some(StatusPlace::Given(before)) = states.get(&place) {
            given.remove(before);
        }
        if let StatusPlace::Given(prefix) = state {
            given.insert(prefix, place);
        }
        states.insert(place, state);
    }

    pub fn count_change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl KeyIndex {
    /// Returns the place of a credential in the token status list, if it has one.
    pub fn status_place_of(&self, prefix: KeyPrefix) -> Option<u32> {
        self.status_places.given.pin().get(&prefix).copied()
    }

    /// Gives every place that was ever given to `take`, in no order.
    pub fn for_each_status_place(&self, mut take: impl FnMut(u32, StatusPlace)) {
        for (place, state) in &self.status_places.states.pin() {
            take(*place, *state);
        }
    }

    /// Returns how many commits have changed the index since the start. A reader that asks this first
    /// finds those changes.
    pub fn changes(&self) -> u64 {
        self.status_places.changes.load(Ordering::Acquire)
    }

    /// Reads, inside the transaction, what the index must hold of `touched` after the commit, in the order in
    /// which it is applied: places that end, then keys and accounts, then places that begin.
    ///
    /// So a reader that finds a place, after that a credential, and after that the same place, has what the
    /// credential held with this place. In any other order it could have what was lost in the same commit.
    pub(in crate::store) fn images(
        &self,
        read: &ReadTx<'_>,
        touched: &mut HashSet<Touched>,
    ) -> Result<Vec<Image>, StoreError> {
        let mut changed = Vec::with_capacity(touched.len());
        for it in touched.iter() {
            self.image(read, *it, &mut changed)?;
        }
        self.retire_narrowed(read, &changed, touched)?;
        let (mut images, mut given) = (Vec::new(), Vec::new());
        for it in touched.iter() {
            let Touched::StatusPlace(place) = *it else { continue };
            let state = read.status_place(place)?;
            let is_given = matches!(state, StatusPlace::Given(_));
            let images = if is_given { &mut given } else { &mut images };
            images.push(Image::StatusPlace(place, state));
        }
        images.append(&mut changed);
        images.append(&mut given);
        Ok(images)
    }

    /// Moves the retirement of these places to now. Tokens with them were issued until the index learned of
    /// their retirement, which may be long after it.
    pub(in crate::store) fn retire_again(
        &self,
        read: &ReadTx<'_>,
        touched: &HashSet<Touched>,
    ) -> Result<(), StoreError> {
        for it in touched {
            if let Touched::StatusPlace(place) = *it {
                read.retire_place_again(place, self.env.time.now())?;
            }
        }
        Ok(())
    }

    /// Retires the places of credentials that lose something by `changed` that their tokens may say. It
    /// compares what the index holds with what it will hold, so no use case has to think of it.
    fn retire_narrowed(
        &self,
        read: &ReadTx<'_>,
        changed: &[Image],
        touched: &mut HashSet<Touched>,
    ) -> Result<(), StoreError> {
        for image in changed {
            let Image::Credential(after) = image else { continue };
            if self.status_place_of(after.prefix).is_none() {
                continue;
            }
            let narrows = |it: &_| self.narrows(it, &after.key);
            if self.look(after.prefix, |it| narrows(&it.key)) == Some(true)
                && let Some(place) = read.retire_status_place(after.prefix, self.env.time.now())?
            {
                touched.insert(Touched::StatusPlace(place));
            }
        }
        Ok(())
    }

    /// Returns whether a token of the key may say more than the key grants afterwards. The end of a key
    /// is no part of this: a token whose key has ended is refused anyway.
    fn narrows(&self, before: &KeyEntry, after: &KeyEntry) -> bool {
        let said = |it: &KeyEntry| self.catalogue.powers(it.scopes()).and(self.catalogue.own());
        let is_nearer = match (before.allowed_ips(), after.allowed_ips()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(after)) => !before.is_within(after),
        };
        is_nearer || !said(before).is_subset_of(said(after))
    }
}

#[cfg(test)]
mod tests;
