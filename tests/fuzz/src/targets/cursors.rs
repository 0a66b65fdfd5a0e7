//! The cursors of lists.

use std::sync::LazyLock;

use keyward::{
    domain::{
        account::Account,
        id::{AccountId, KeyId},
        lifetime::Lifetimes,
        list_order::ListOrder,
        scope::ScopeSet,
        text::{Metadata, Name},
    },
    env::Timestamp,
    fuzzing::{descending_cursor, event_cursor, read_cursor, read_descending_cursor},
    http::request::query,
    service::{AccountDraft, KeyFilter, KeyPage, NewKey, Principal},
};

use super::APPLICATION;

pub const TOKENS: &[&str] =
    &["v1.", "v1d.", ".", "19b76da8800", "0000000000000000000000000000002a", "ffffffff", "+", "-"];

/// Two accounts with three keys each: as (creation, id), the oldest first.
static ACCOUNTS: LazyLock<[(Principal, Vec<Place>); 2]> =
    LazyLock::new(|| ["one", "two"].map(account));

type Place = (Timestamp, KeyId);

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let rows = [ListOrder::Ascending, ListOrder::Descending].map(|it| query::key_cursor(text, it));
    let account = query::account_cursor(text);
    let events = [read_cursor(text), read_descending_cursor(text)];
    match rows {
        [Some((at, id)), None] => assert_eq!(query::cursor(at, id.as_raw()), text),
        [None, Some((at, id))] => assert_eq!(query::descending_cursor(at, id.as_raw()), text),
        [None, None] => (),
        [Some(_), Some(_)] => panic!("one cursor for two orders"),
    }
    match events {
        [Some(seq), None] => assert!(0 <= seq && event_cursor(seq) == text),
        [None, Some(seq)] => assert!(0 <= seq && descending_cursor(seq) == text),
        [None, None] => (),
        [Some(_), Some(_)] => panic!("one cursor for two orders"),
    }
    let raw = |it: Option<(Timestamp, AccountId)>| it.map(|(at, id)| (at, id.as_raw()));
    assert_eq!(raw(account), rows[0].map(|(at, id)| (at, id.as_raw())));
    assert!(events == [None, None] || rows == [None, None], "one cursor for two lists");
    for (order, place) in [ListOrder::Ascending, ListOrder::Descending].into_iter().zip(rows) {
        if let Some(place) = place {
            page(order, place);
        }
    }
    // The cursor of a key of this account, moved by the input.
    let by = input.iter().fold(0_i64, |sum, it| sum.wrapping_mul(5).wrapping_add(i64::from(*it)));
    let (_, keys) = &ACCOUNTS[usize::from(input.len() % 2 == 0)];
    let (at, id) = keys[input.len() % keys.len()];
    page(ListOrder::Ascending, (at, KeyId::from_raw(id.as_raw().wrapping_add_signed(by.into()))));
}

/// Checks that a page has the keys of the caller's account that lie beyond the place, and no others.
fn page(order: ListOrder, after: Place) {
    for (caller, keys) in &*ACCOUNTS {
        let filter = KeyFilter { account: Some(caller.account), ..KeyFilter::default() };
        let page = KeyPage { order, after: Some(after), limit: 100 };
        let found = APPLICATION.instance.app.list_keys(caller, &filter, page).expect("no page");
        let mut expected = keys.clone();
        match order {
            ListOrder::Ascending => expected.retain(|it| after < *it),
            ListOrder::Descending => {
                expected.retain(|it| *it < after);
                expected.reverse();
            }
        }
        assert!(found.iter().all(|it| it.key.account_id == caller.account), "another's key");
        assert!(found.iter().map(|it| (it.key.created_at, it.key.id)).eq(expected));
    }
}

fn account(name: &str) -> (Principal, Vec<Place>) {
    let (app, operator) = (&APPLICATION.instance.app, &APPLICATION.operator);
    let name = || Name::parse(name).expect("a name");
    let draft = AccountDraft {
        name: name(),
        external_id: None,
        allowed_scopes: None,
        max_keys: None,
        lifetimes: Lifetimes::default(),
        rate_limit: None,
        key_rate_limit: None,
        token_exchange: false,
        metadata: Metadata::empty(),
    };
    let permit = app.permit_new_account(operator, &draft).expect("no permit");
    let Account { id, .. } =
        app.create_account(permit, draft, app.mint()).expect("no account").account;
    for _ in 0..2 {
        let new = NewKey::new(name(), ScopeSet::from_stored("orders:read").expect("a scope"));
        let permit = app.permit_new_key(operator, id, &new).expect("no permit");
        app.create_key(permit, id, new, app.mint()).expect("no key");
    }
    let caller = Principal { account: id, operator: false, ..operator.clone() };
    let filter = KeyFilter { account: Some(id), ..KeyFilter::default() };
    let page = KeyPage { order: ListOrder::Ascending, after: None, limit: 100 };
    let keys = app.list_keys(&caller, &filter, page).expect("no page");
    let mut places: Vec<_> = keys.iter().map(|it| (it.key.created_at, it.key.id)).collect();
    places.sort();
    (caller, places)
}
