//! The steps of a history, and how often each comes.

use proptest::{option::of, prelude::*, sample::select};

use super::rules::{Change, LISTS, Scopes};

/// In seconds.
const DAY: u64 = 86_400;

#[derive(Clone, Debug)]
pub enum Step {
    Create {
        account: usize,
        by: Caller,
        settings: Settings,
    },
    /// Sends an earlier creation again, with the same `Idempotency-Key`.
    Repeat {
        creation: usize,
        same_body: bool,
    },
    Import {
        account: usize,
        digest: u8,
        settings: Settings,
    },
    /// Applies a file that declares one account and one key.
    Apply {
        account: usize,
        digest: u8,
        scopes: Scopes,
    },
    Update {
        key: usize,
        by: Caller,
        change: Change,
    },
    Rotate {
        key: usize,
        by: Caller,
        grace: Option<u64>,
    },
    Complete {
        key: usize,
        by: Caller,
    },
    Revoke {
        key: usize,
        by: Caller,
    },
    Leak {
        key: usize,
        age: usize,
    },
    Suspend {
        account: usize,
        suspended: bool,
    },
    DeleteAccount {
        account: usize,
    },
    Verify {
        key: usize,
        age: usize,
        scope: &'static str,
        address: &'static str,
    },
    Exchange {
        key: usize,
        age: usize,
    },
    Pass {
        seconds: u64,
    },
    /// Moves the clock to an instant at which something ends, or this many milliseconds beside it, and asks there.
    Reach {
        bound: Bound,
        /// Chooses one of the keys that have such a bound.
        key: usize,
        beside: i64,
        /// Only the wall clock moves, if keyward believes it at once.
        by_wall: bool,
    },
    WallStepsBack,
    /// The wall clock leaps ahead by this, and back before keyward believes it.
    LeapAndBack {
        days: u64,
    },
    /// The wall clock leaps ahead by this, and stays there for ten minutes.
    LeapAndStay {
        hours: u64,
    },
    /// The wall clock runs ahead, is corrected, and the operator accepts it.
    AcceptClock,
    Run {
        job: &'static str,
    },
    Restart,
    Crash,
    /// Compares the list of keys and the status list of tokens.
    Look,
}

/// The presented key of a request.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    Operator,
    /// The first key of the account.
    Manager,
    /// The first key of the other account.
    Stranger,
    /// A credential of the key itself: 0 is the current one, 1 the one before.
    Itself {
        age: usize,
    },
}

/// What ends at an instant.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    Grace,
    Key,
    /// The time in which a key has more than a week left.
    Active,
    /// The window of a rate limit.
    Window,
    /// The time in which an answer is kept for its `Idempotency-Key`.
    Answer,
}

/// The settings of a new key.
#[derive(Clone, Debug)]
pub struct Settings {
    pub scopes: Scopes,
    pub lifetime: Option<u64>,
    pub list: usize,
    pub limit: Option<u32>,
}

const SCOPES: [Scopes; 4] = [
    &["orders:read"],
    &["orders:read", "orders:write"],
    &["orders:read", "api-keys:rotate"],
    &["orders:read", "orders:write", "api-keys:write"],
];

fn caller() -> impl Strategy<Value = Caller> {
    prop_oneof![
        4 => Just(Caller::Operator),
        2 => Just(Caller::Manager),
        1 => Just(Caller::Stranger),
        5 => prop_oneof![3 => Just(0), 3 => Just(1), 1 => Just(2_usize)].prop_map(|age| Caller::Itself { age }),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let lifetime = of(select(vec![60, 300, 3 * DAY, 30 * DAY]));
    (select(SCOPES.to_vec()), lifetime, select(vec![0, 0, 0, 1, 2]), of(1..4_u32))
        .prop_map(|(scopes, lifetime, list, limit)| Settings { scopes, lifetime, list, limit })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => (0..2_u8).prop_map(Change::Name),
        2 => select(SCOPES.to_vec()).prop_map(Change::Scopes),
        2 => of(select(vec![60, 300, 3 * DAY])).prop_map(Change::End),
        2 => (0..LISTS.len()).prop_map(Change::List),
        2 => any::<bool>().prop_map(Change::Enabled),
        1 => (1..4_u32).prop_map(Change::Limit),
    ]
}

/// Requests that change or use a key.
fn about_keys() -> impl Strategy<Value = Step> {
    let key = || 0..9_usize;
    let age = || prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2_usize)];
    let scope = || select(vec!["", "orders:read", "orders:write"]);
    let address = || select(vec!["127.0.0.1", "127.0.0.2", "203.0.113.7"]);
    let grace = || select(vec![None, Some(0), Some(59), Some(60), Some(600)]);
    prop_oneof![
        4 => (key(), caller(), change()).prop_map(|(key, by, change)| Step::Update { key, by, change }),
        8 => (key(), caller(), grace()).prop_map(|(key, by, grace)| Step::Rotate { key, by, grace }),
        2 => (key(), caller()).prop_map(|(key, by)| Step::Complete { key, by }),
        1 => (key(), caller()).prop_map(|(key, by)| Step::Revoke { key, by }),
        1 => (key(), age()).prop_map(|(key, age)| Step::Leak { key, age }),
        6 => (key(), age(), scope(), address())
            .prop_map(|(key, age, scope, address)| Step::Verify { key, age, scope, address }),
        3 => (key(), age()).prop_map(|(key, age)| Step::Exchange { key, age }),
    ]
}

fn reach() -> impl Strategy<Value = Step> {
    let bound = prop_oneof![
        4 => Just(Bound::Grace),
        3 => Just(Bound::Key),
        1 => Just(Bound::Active),
        2 => Just(Bound::Window),
        2 => Just(Bound::Answer),
    ];
    (bound, 0..9_usize, -1..=1_i64, any::<bool>())
        .prop_map(|(bound, key, beside, by_wall)| Step::Reach { bound, key, beside, by_wall })
}

pub fn step() -> impl Strategy<Value = Step> {
    let account = || 0..2_usize;
    let jobs =
        ["end_graces", "expire_keys", "purge", "flush_usage", "keep_time", "notices", "tokens"];
    prop_oneof![
        4 => (account(), caller(), settings())
            .prop_map(|(account, by, settings)| Step::Create { account, by, settings }),
        2 => (0..9_usize, any::<bool>())
            .prop_map(|(creation, same_body)| Step::Repeat { creation, same_body }),
        1 => (account(), 0..3_u8, settings())
            .prop_map(|(account, digest, settings)| Step::Import { account, digest, settings }),
        1 => (account(), 0..3_u8, select(SCOPES.to_vec()))
            .prop_map(|(account, digest, scopes)| Step::Apply { account, digest, scopes }),
        22 => about_keys(),
        2 => (account(), any::<bool>()).prop_map(|(account, suspended)| Step::Suspend { account, suspended }),
        1 => account().prop_map(|account| Step::DeleteAccount { account }),
        5 => select(vec![1, 58, 60, 61, 300, DAY, 31 * DAY]).prop_map(|seconds| Step::Pass { seconds }),
        6 => reach(),
        1 => prop_oneof![
            Just(Step::WallStepsBack),
            select(vec![1, 40]).prop_map(|days| Step::LeapAndBack { days }),
            select(vec![2, 40 * 24]).prop_map(|hours| Step::LeapAndStay { hours }),
            Just(Step::AcceptClock),
        ],
        4 => select(jobs.to_vec()).prop_map(|job| Step::Run { job }),
        1 => prop_oneof![Just(Step::Restart), Just(Step::Crash)],
        2 => Just(Step::Look),
    ]
}
