//! The rules of docs/api.md that the histories check, as a program without a server. Compare it with that page, not
//! with keyward's code. Times are milliseconds since the start of the history, lengths in requests are seconds.

mod changes;

pub const SECOND: u64 = 1_000;
pub const DAY: u64 = 86_400 * SECOND;
/// The limit of each account (`maxKeys`).
pub const MAX_KEYS: usize = 5;
/// The length of the window of every rate limit, in seconds.
pub const WINDOW: u64 = 60;
/// Address lists, from the widest to the narrowest, and the address from which this API is called.
pub const LISTS: [Option<&str>; 3] = [None, Some("127.0.0.0/8"), Some("127.0.0.2/32")];
pub const HERE: &str = "127.0.0.1";

/// The verdicts on a text that no credential has: of keyward's shape, or of another.
pub const UNKNOWN: [&str; 2] = ["NOT_FOUND", "MALFORMED"];

pub type Scopes = &'static [&'static str];
/// A success, or the `code` of the refusal.
pub type Outcome = Result<(), &'static str>;

/// Whether a credential was accepted once. Use is stored by a job and at a stop, so a crash may lose it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
pub enum Used {
    No,
    Perhaps,
    Unsaved,
    Yes,
}

#[derive(Clone, Debug)]
pub struct Credential {
    pub text: String,
    /// The end of its grace period; `None` for the current credential.
    pub ends_at: Option<u64>,
    pub used: Used,
    /// Whether the key itself asked for the rotation that made it.
    pub made_by_itself: bool,
    /// A purge removed it.
    pub gone: bool,
}

/// What the newest window of a rate limit granted: between `least` and `most`, because a crash may lose some of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    window: u64,
    stored: u32,
    least: u32,
    most: u32,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub account: usize,
    pub name: String,
    pub scopes: Scopes,
    pub enabled: bool,
    /// A position in [`LISTS`].
    pub list: usize,
    pub expires_at: Option<u64>,
    pub limit: Option<u32>,
    pub spent: Spent,
    pub revoked_at: Option<u64>,
    /// The last one is current.
    pub credentials: Vec<Credential>,
}

/// A key and one of its credentials, by their positions.
pub type Place = (usize, usize);

pub struct Question {
    /// Empty for none.
    pub scope: &'static str,
    pub address: &'static str,
    pub cost: u32,
}

/// Asks without a scope.
pub const NO_QUESTION: Question = Question { scope: "", address: HERE, cost: 1 };

#[derive(Clone, Copy, Debug)]
pub enum Change {
    Name(u8),
    Scopes(Scopes),
    End(Option<u64>),
    List(usize),
    Enabled(bool),
    Limit(u32),
    /// What a file of `keyward apply` declares: the name `x`, and these scopes.
    Declared(Scopes),
}

#[derive(Default)]
pub struct Account {
    pub id: String,
    pub suspended: bool,
    pub deleted: bool,
}

/// A token that was issued for a credential, and whether its key lost something since.
#[derive(Clone, Copy, Debug)]
pub struct Issued {
    pub place: Place,
    pub narrowed: bool,
}

#[derive(Default)]
pub struct Model {
    pub now: u64,
    pub accounts: [Account; 2],
    pub keys: Vec<Key>,
    pub tokens: Vec<Issued>,
    /// The event of each change: its subject and its type.
    pub events: Vec<(String, &'static str)>,
    /// A purge has just run. It may have removed what ended 30 days ago; the next verdicts tell.
    pub purging: bool,
}

impl Credential {
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ends_at: None,
            used: Used::No,
            made_by_itself: false,
            gone: false,
        }
    }
}

impl Key {
    pub fn current(&self) -> &Credential {
        &self.credentials[self.credentials.len() - 1]
    }

    /// Whether the key has an address and is in lists.
    pub fn is_listed(&self) -> bool {
        self.revoked_at.is_none() && !self.current().gone
    }

    /// Returns when the grace period of a credential ends, at the latest with its key.
    pub fn end_of_grace(&self, credential: &Credential) -> Option<u64> {
        credential.ends_at.map(|at| self.expires_at.map_or(at, |end| at.min(end)))
    }

    /// The earlier credentials that are in their grace period.
    pub fn in_grace(&self, now: u64) -> impl Iterator<Item = &Credential> {
        self.credentials.iter().filter(move |it| self.end_of_grace(it).is_some_and(|at| now < at))
    }

    fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Returns whether it was neither revoked nor purged, and has not expired.
    pub fn is_usable(&self, now: u64) -> bool {
        self.is_listed() && !self.is_expired(now)
    }

    /// Ends every credential but the current one.
    fn end_graces(&mut self, now: u64) {
        self.credentials
            .iter_mut()
            .filter_map(|it| it.ends_at.as_mut())
            .for_each(|at| *at = now.min(*at));
    }

    pub fn status(&self, now: u64) -> &'static str {
        let ends_before = |at: u64| self.expires_at.is_some_and(|end| end < at);
        match () {
            () if !self.enabled => "disabled",
            () if self.is_expired(now) => "expired",
            () if ends_before(now + 7 * DAY) => "expiring",
            () => "active",
        }
    }
}

impl Model {
    /// Returns the verdict on this credential: the first that applies. Two are possible if a purge or a crash leaves
    /// the choice to keyward.
    pub fn verdicts(&self, (key, credential): Place, asked: &Question) -> Vec<&'static str> {
        let key = &self.keys[key];
        let Credential { ends_at, gone, .. } = key.credentials[credential];
        if gone {
            return UNKNOWN.to_vec();
        }
        let is_past = |at: Option<u64>| at.is_some_and(|at| at <= self.now);
        let Spent { least, most, .. } = key.spent_at(self.now);
        let exceeds =
            |spent: u32| key.limit.is_some_and(|it| 0 < asked.cost && it < spent + asked.cost);
        let found = match () {
            () if key.revoked_at.is_some() => "REVOKED",
            () if is_past(ends_at) => "ROTATED",
            () if self.accounts[key.account].suspended => "ACCOUNT_SUSPENDED",
            () if !key.enabled => "DISABLED",
            () if is_past(key.expires_at) => "EXPIRED",
            () if !contains(key.list, asked.address) => "IP_NOT_ALLOWED",
            () if !asked.scope.is_empty() && !key.scopes.contains(&asked.scope) => {
                "INSUFFICIENT_SCOPES"
            }
            () if exceeds(least) => "RATE_LIMITED",
            () if exceeds(most) => return vec!["VALID", "RATE_LIMITED"],
            () => "VALID",
        };
        let ended_at = [key.revoked_at, ends_at, key.expires_at].into_iter().flatten().min();
        let may_be_gone = self.purging && ended_at.is_some_and(|at| at + 30 * DAY <= self.now);
        if may_be_gone { [&[found], &UNKNOWN[..]].concat() } else { vec![found] }
    }

    /// Counts an accepted request.
    pub fn accept(&mut self, (key, credential): Place, cost: u32) {
        let now = self.now;
        let key = &mut self.keys[key];
        let used = &mut key.credentials[credential].used;
        *used = if *used == Used::Yes { Used::Yes } else { Used::Unsaved };
        let mut spent = key.spent_at(now);
        if key.limit.is_some() {
            (spent.least, spent.most) = (spent.least + cost, spent.most + cost);
        }
        if 0 < cost {
            // What was granted shows that no more than the rest had been used before.
            spent.most = spent.most.min(key.limit.unwrap_or(spent.most)).max(spent.least);
        }
        key.spent = spent;
    }

    /// Counts a request that the rate limit refused: what a crash may have lost was not lost.
    pub fn limited(&mut self, key: usize) {
        let spent = self.keys[key].spent_at(self.now);
        let least =
            self.keys[key].limit.map_or(spent.least, |it| it.clamp(spent.least, spent.most));
        self.keys[key].spent = Spent { least, ..spent };
    }

    /// Identifies the caller of this API; `None` is the operator. `any_of` are the scopes of which one is enough.
    fn authenticate(&mut self, caller: Option<Place>, any_of: Scopes) -> Outcome {
        let Some(place) = caller else { return Ok(()) };
        match self.verdicts(place, &Question { scope: "", address: HERE, cost: 0 })[0] {
            "VALID" => (),
            refused => return Err(refusal(refused)),
        }
        let scopes = self.keys[place.0].scopes;
        if !any_of.is_empty() && !any_of.iter().any(|it| scopes.contains(it)) {
            return Err("missing_scope");
        }
        self.accept(place, 0);
        Ok(())
    }

    /// Finds the key that the caller names.
    fn find(&self, caller: Option<Place>, key: usize) -> Outcome {
        let it = &self.keys[key];
        let other = caller.is_some_and(|(caller, _)| self.keys[caller].account != it.account);
        if it.is_listed() && !other { Ok(()) } else { Err("not_found") }
    }

    fn record(&mut self, key: usize, event: &'static str) {
        self.events.push((self.keys[key].id.clone(), event));
    }

    pub fn suspend(&mut self, account: usize, suspended: bool) -> Outcome {
        let it = &mut self.accounts[account];
        if it.deleted {
            return Err("not_found");
        }
        if it.suspended != suspended {
            it.suspended = suspended;
            self.events.push((it.id.clone(), "account.updated"));
        }
        Ok(())
    }

    pub fn delete_account(&mut self, account: usize) -> Outcome {
        let it = &mut self.accounts[account];
        if it.deleted {
            return Err("not_found");
        }
        it.deleted = true;
        self.events.push((it.id.clone(), "account.deleted"));
        for key in 0..self.keys.len() {
            if self.keys[key].account == account && self.keys[key].is_listed() {
                self.end(key);
            }
        }
        Ok(())
    }

    /// Stores the use of keys: a job does, and a stop.
    pub fn store_use(&mut self) {
        for key in &mut self.keys {
            key.credentials
                .iter_mut()
                .filter(|it| it.used == Used::Unsaved)
                .for_each(|it| it.used = Used::Yes);
            key.spent.stored = key.spent.least;
        }
    }

    /// Ends the process at once.
    pub fn crash(&mut self) {
        for key in &mut self.keys {
            key.credentials
                .iter_mut()
                .filter(|it| it.used == Used::Unsaved)
                .for_each(|it| it.used = Used::Perhaps);
            key.spent.least = key.spent.stored.min(key.spent.least);
        }
    }
}

impl Key {
    fn settings(&self) -> (&str, Scopes, bool, usize, Option<u64>, Option<u32>) {
        (&self.name, self.scopes, self.enabled, self.list, self.expires_at, self.limit)
    }

    fn spent_at(&self, now: u64) -> Spent {
        let window = now / (WINDOW * SECOND);
        if self.spent.window == window { self.spent } else { Spent { window, ..Spent::default() } }
    }
}

/// Whether one of these credentials was used; where a crash leaves that open, what the answer says.
fn was_used(credentials: impl IntoIterator<Item = Used>, said: bool) -> bool {
    let most = credentials.into_iter().fold(Used::No, |a, b| if a < b { b } else { a });
    most == Used::Perhaps && said || Used::Perhaps < most
}

fn contains(list: usize, address: &str) -> bool {
    match LISTS[list] {
        None => true,
        Some("127.0.0.0/8") => address.starts_with("127."),
        Some(network) => network.trim_end_matches("/32") == address,
    }
}

/// Returns the code of a request whose key has this verdict.
pub fn refusal(verdict: &str) -> &'static str {
    match verdict {
        "REVOKED" => "key_revoked",
        "ROTATED" => "key_rotated",
        "ACCOUNT_SUSPENDED" => "account_suspended",
        "DISABLED" => "key_disabled",
        "EXPIRED" => "key_expired",
        "IP_NOT_ALLOWED" => "ip_not_allowed",
        "RATE_LIMITED" => "rate_limited",
        _ => "invalid_key",
    }
}
