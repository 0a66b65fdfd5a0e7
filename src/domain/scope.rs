//! Scopes: what a key may do.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

/// One permission, written `resource:action`, such as `orders:read`; or `*`, everything.
///
/// Lower-case letters, digits and hyphens on both sides of a single colon, at most
/// [`Scope::MAX_LEN`] bytes. There are no other wildcards.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scope(String);

#[derive(Debug, thiserror::Error)]
#[error("a scope looks like `orders:read`")]
pub struct InvalidScope;

impl Scope {
    pub const MAX_LEN: usize = 64;
    pub const EVERYTHING: &'static str = "*";

    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let is_word = |it: &str| {
            !it.is_empty() && it.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        let two_words = text
            .split_once(':')
            .is_some_and(|(resource, action)| is_word(resource) && is_word(action));
        if text == Self::EVERYTHING || (two_words && text.len() <= Self::MAX_LEN) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidScope)
    }

    /// Whether it is one of keyward's own scopes.
    pub fn is_reserved(&self) -> bool {
        RESERVED.iter().any(|(name, ..)| *name == self.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The scopes of one key by name, each once and at least one. Some may no longer be in the
/// catalogue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Returns `None` without any scope.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Option<Self> {
        let scopes: BTreeSet<Scope> = scopes.into_iter().collect();
        (!scopes.is_empty()).then_some(Self(scopes))
    }

    /// Reads the stored form: names separated by a blank.
    pub fn from_stored(text: &str) -> Option<Self> {
        let scopes: Result<BTreeSet<_>, _> = text.split(' ').map(Scope::parse).collect();
        scopes.ok().and_then(Self::new)
    }

    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{}", scope.as_str())?;
        }
        Ok(())
    }
}

/// The keys that may have a scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holder {
    AnyAccount,
    /// Keys of the operator account only.
    Operator,
}

/// A scope with its description.
#[derive(Clone, Debug)]
pub struct CatalogueEntry {
    pub scope: Scope,
    pub description: String,
    /// Whether it is a scope of keyward, not of the operator's API.
    pub reserved: bool,
    pub holder: Holder,
}

/// All scopes in the order of lists: the operator's, then keyward's own.
#[derive(Debug)]
pub struct Catalogue {
    entries: Vec<CatalogueEntry>,
    positions: HashMap<String, usize>,
    /// The bit of `*`.
    star: ScopeBits,
    everything: ScopeBits,
    any_account: ScopeBits,
    operators_own: ScopeBits,
}

/// A set of scopes of one catalogue, as bits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ScopeBits([u64; 4]);

pub const KEYS_READ: &str = "api-keys:read";
pub const KEYS_WRITE: &str = "api-keys:write";
pub const KEYS_ROTATE: &str = "api-keys:rotate";
pub const EVENTS_READ: &str = "events:read";
pub const KEYS_VERIFY: &str = "api-keys:verify";
pub const ACCOUNTS_READ: &str = "accounts:read";
pub const ACCOUNTS_WRITE: &str = "accounts:write";
pub const METRICS_READ: &str = "metrics:read";

/// The scopes of keyward: name, holders, description.
const RESERVED: [(&str, Holder, &str); 9] = [
    (KEYS_READ, Holder::AnyAccount, "List and read the API keys of its own account"),
    (KEYS_WRITE, Holder::AnyAccount, "Create, update, rotate and revoke its account's keys"),
    (KEYS_ROTATE, Holder::AnyAccount, "Rotate itself and nothing else"),
    (EVENTS_READ, Holder::AnyAccount, "Read the audit log of its own account"),
    (KEYS_VERIFY, Holder::Operator, "Ask whether any key is good"),
    (ACCOUNTS_READ, Holder::Operator, "See all accounts and their keys"),
    (ACCOUNTS_WRITE, Holder::Operator, "Manage all accounts and their keys"),
    (METRICS_READ, Holder::Operator, "Read /metrics from elsewhere than the machine itself"),
    (Scope::EVERYTHING, Holder::Operator, "Everything"),
];

impl Catalogue {
    /// The most scopes of the operator, so that all fit into [`ScopeBits`].
    pub const MAX_OWN: usize = 200;

    /// Builds the catalogue of the operator's scopes, then the reserved ones. The configuration has
    /// checked that names are valid, unique, not reserved and not too many. Others are left out.
    pub fn new(own: impl IntoIterator<Item = (String, String)>) -> Self {
        let own = own.into_iter().take(Self::MAX_OWN).filter_map(|(name, description)| {
            let scope = Scope::parse(&name).ok()?;
            Some(CatalogueEntry { scope, description, reserved: false, holder: Holder::AnyAccount })
        });
        let reserved = RESERVED.iter().filter_map(|(name, holder, description)| {
            Some(CatalogueEntry {
                scope: Scope::parse(name).ok()?,
                description: (*description).to_owned(),
                reserved: true,
                holder: *holder,
            })
        });
        let entries: Vec<_> = own.chain(reserved).collect();
        let named = entries.iter().enumerate();
        let positions = named.map(|(i, it)| (it.scope.as_str().to_owned(), i)).collect();
        let all_where = |wanted: &dyn Fn(&CatalogueEntry) -> bool| {
            let positions = entries.iter().enumerate().filter(|(_, it)| wanted(it));
            positions.fold(ScopeBits::default(), |bits, (i, _)| bits.with(i))
        };
        Self {
            star: all_where(&|it| it.scope.as_str() == Scope::EVERYTHING),
            everything: all_where(&|_| true),
            any_account: all_where(&|it| it.reserved && it.holder == Holder::AnyAccount),
            operators_own: all_where(&|it| !it.reserved),
            positions,
            entries,
        }
    }

    pub fn entries(&self) -> &[CatalogueEntry] {
        &self.entries
    }

    /// Returns the bit of the scope, if it exists.
    pub fn find(&self, name: &str) -> Option<ScopeBits> {
        let position = self.positions.get(name)?;
        Some(ScopeBits::default().with(*position))
    }

    /// As [`Catalogue::find`], for a reserved scope. Returns no bit for a misspelt name.
    pub fn reserved(&self, name: &'static str) -> ScopeBits {
        let own = self.entries.len() - RESERVED.len();
        let place = RESERVED.iter().position(|(it, ..)| *it == name);
        place.map_or_else(ScopeBits::default, |it| ScopeBits::default().with(own + it))
    }

    /// Returns the bits of the scopes that are in the catalogue. A removed scope grants nothing and
    /// has no bit.
    pub fn bits(&self, set: &ScopeSet) -> ScopeBits {
        let positions = set.iter().filter_map(|it| self.positions.get(it.as_str()));
        positions.fold(ScopeBits::default(), |bits, position| bits.with(*position))
    }

    /// Returns what a key with these scopes may do: `*` stands for everything.
    pub fn powers(&self, bits: ScopeBits) -> ScopeBits {
        if self.star.is_subset_of(bits) { self.everything } else { bits }
    }

    /// Returns the most scopes that a key of a customer's account may have.
    pub fn ceiling(&self, allowed: Option<&ScopeSet>) -> ScopeBits {
        let own = allowed.map_or(self.operators_own, |it| self.bits(it).and(self.operators_own));
        own.or(self.any_account)
    }

    pub fn everything(&self) -> ScopeBits {
        self.everything
    }

    /// Returns the scopes of the operator, without keyward's own.
    pub fn own(&self) -> ScopeBits {
        self.operators_own
    }

    /// Returns the bit of `*`.
    pub fn star(&self) -> ScopeBits {
        self.star
    }

    /// Returns the names in the order of the catalogue.
    pub fn names(&self, bits: ScopeBits) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .enumerate()
            .filter(move |(i, _)| bits.has(*i))
            .map(|(_, it)| it.scope.as_str())
    }

    /// Returns all names: in the order of the catalogue, then the removed ones in alphabetical
    /// order.
    pub fn ordered<'a>(&'a self, set: &'a ScopeSet) -> Vec<&'a str> {
        let gone =
            set.iter().filter(|it| !self.positions.contains_key(it.as_str())).map(Scope::as_str);
        self.names(self.bits(set)).chain(gone).collect()
    }

    /// Returns up to three names that `text` may have meant; none for a text that is longer than any
    /// scope.
    pub fn nearest(&self, text: &str) -> Vec<&str> {
        const SIMILAR: f64 = 0.7;
        if Scope::MAX_LEN < text.len() {
            return Vec::new();
        }
        let mut near: Vec<(f64, &str)> = self
            .entries
            .iter()
            .map(|it| (strsim::jaro_winkler(text, it.scope.as_str()), it.scope.as_str()))
            .filter(|(likeness, _)| SIMILAR <= *likeness)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        near.into_iter().take(3).map(|(_, name)| name).collect()
    }
}

impl ScopeBits {
    const WORD: usize = 64;
    /// The bits of a group, and the number of groups.
    pub const GROUP: usize = 48;
    pub const GROUPS: usize = 5;

    fn with(mut self, position: usize) -> Self {
        if let Some(word) = self.0.get_mut(position / Self::WORD) {
            *word |= 1 << (position % Self::WORD);
        }
        self
    }

    fn has(self, position: usize) -> bool {
        self.0.get(position / Self::WORD).is_some_and(|it| it >> (position % Self::WORD) & 1 == 1)
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Returns the scopes of `self` that are not in `other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    pub fn is_subset_of(self, other: Self) -> bool {
        self.minus(other).is_empty()
    }

    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Returns the bits in groups of [`ScopeBits::GROUP`], which hold every scope of a catalogue.
    pub fn groups(self) -> [u64; Self::GROUPS] {
        const LOW: u64 = (1 << ScopeBits::GROUP) - 1;
        let [a, b, c, d] = self.0;
        [a, a >> 48 | b << 16, b >> 32 | c << 32, c >> 16, d].map(|it| it & LOW)
    }

    /// Returns the bits of one group in their place.
    pub fn of_group(group: usize, bits: u64) -> Self {
        let positions = (0..Self::GROUP).filter(|i| bits >> i & 1 == 1);
        positions.fold(Self::default(), |all, i| all.with(group * Self::GROUP + i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let own = ["orders:read", "orders:write", "billing:read"];
        Catalogue::new(own.map(|it| (it.to_owned(), it.to_owned())))
    }

    fn set(text: &str) -> ScopeSet {
        ScopeSet::from_stored(text).unwrap()
    }

    #[test]
    fn a_scope_is_two_lower_case_words_or_a_star() {
        for good in ["orders:read", "api-keys:write", "v2:x", "*"] {
            assert_eq!(Scope::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", ":", "orders", "orders:", ":read", "Orders:read", "a:b:c", "orders:*", "a b:c"]
        {
            assert!(Scope::parse(bad).is_err(), "{bad:?} must not parse");
        }
    }

    #[test]
    fn scopes_are_listed_in_catalogue_order_each_once() {
        let catalogue = catalogue();
        let mixed = set("events:read zzz:gone orders:write aaa:gone orders:read orders:write");
        assert_eq!(
            catalogue.ordered(&mixed),
            ["orders:read", "orders:write", "events:read", "aaa:gone", "zzz:gone"]
        );
    }

    #[test]
    fn a_star_is_every_scope_but_write_is_not_read() {
        let catalogue = catalogue();
        let read = catalogue.find("orders:read").unwrap();
        let powers = |text| catalogue.powers(catalogue.bits(&set(text)));
        assert!(read.is_subset_of(powers("*")));
        assert!(read.is_subset_of(powers("orders:read")));
        assert!(!read.is_subset_of(powers("orders:write")));
        assert!(powers("zzz:gone").is_empty());
        assert!(catalogue.find("zzz:gone").is_none());
    }

    #[test]
    fn an_accounts_ceiling_never_holds_what_only_the_operator_may() {
        let catalogue = catalogue();
        let names = |allowed: Option<&str>| {
            let allowed = allowed.map(set);
            catalogue.names(catalogue.ceiling(allowed.as_ref())).collect::<Vec<_>>().join(" ")
        };
        let own = "api-keys:read api-keys:write api-keys:rotate events:read";
        assert_eq!(names(None), format!("orders:read orders:write billing:read {own}"));
        assert_eq!(names(Some("orders:write accounts:write")), format!("orders:write {own}"));
    }

    #[test]
    fn the_last_of_the_most_scopes_there_can_be_has_its_bit() {
        let own = (0..Catalogue::MAX_OWN).map(|i| (format!("s{i}:x"), String::new()));
        let catalogue = Catalogue::new(own);
        let star = catalogue.find("*").unwrap();
        assert!(!star.is_empty());
        assert_eq!(catalogue.names(star).collect::<Vec<_>>(), ["*"]);
    }

    #[test]
    fn every_scope_is_in_one_group_and_comes_back_from_it() {
        for position in 0..Catalogue::MAX_OWN + RESERVED.len() {
            let bits = ScopeBits::default().with(position);
            let groups = bits.groups();
            let rest = groups.iter().enumerate().filter(|(_, it)| **it != 0);
            let found: Vec<_> = rest.map(|(i, it)| ScopeBits::of_group(i, *it)).collect();
            assert_eq!(found, [bits], "{position}");
        }
    }

    #[test]
    fn a_typo_is_told_what_was_meant() {
        assert_eq!(catalogue().nearest("order:read").first(), Some(&"orders:read"));
        assert!(catalogue().nearest("qqqq").is_empty());
        let long = format!("orders:rea{}", "d".repeat(Scope::MAX_LEN));
        assert!(catalogue().nearest(&long).is_empty());
    }

    #[test]
    fn a_scope_has_at_most_64_bytes() {
        let longest = format!("{}:{}", "a".repeat(31), "b".repeat(32));
        assert!(Scope::parse(&longest).is_ok());
        assert!(Scope::parse(&format!("{longest}b")).is_err());
    }

    #[test]
    fn only_the_scopes_of_keyward_are_reserved() {
        for (name, ..) in RESERVED {
            assert!(Scope::parse(name).unwrap().is_reserved(), "{name}");
        }
        assert!(!Scope::parse("orders:read").unwrap().is_reserved());
    }

    #[test]
    fn the_bits_of_a_catalogue_name_its_scopes() {
        let catalogue = catalogue();
        let names = |bits| catalogue.names(bits).collect::<Vec<_>>();
        assert_eq!(names(catalogue.own()), ["orders:read", "orders:write", "billing:read"]);
        assert_eq!(names(catalogue.star()), ["*"]);
        assert_eq!(names(catalogue.everything()).len(), 3 + RESERVED.len());
        for (name, ..) in RESERVED {
            assert_eq!(names(catalogue.reserved(name)), [name]);
        }
        assert!(catalogue.reserved("orders:read").is_empty());
        assert_eq!(catalogue.entries().len(), 3 + RESERVED.len());
    }

    #[test]
    fn a_set_is_stored_and_read_again() {
        let stored = set("orders:write orders:read orders:read");
        assert_eq!(stored.to_string(), "orders:read orders:write");
        assert_eq!(set(&stored.to_string()), stored);
        assert!(stored.contains(&Scope::parse("orders:read").unwrap()));
        assert!(!stored.contains(&Scope::parse("events:read").unwrap()));
        assert_eq!(stored.iter().count(), 2);
        assert_eq!((ScopeSet::new([]), ScopeSet::from_stored("a b")), (None, None));
    }

    #[test]
    fn at_most_three_names_are_suggested_the_nearest_first() {
        let own = ["orders:reap", "orders:read", "orders:real", "orders:rear"];
        let catalogue = Catalogue::new(own.map(|it| (it.to_owned(), String::new())));
        let nearest = catalogue.nearest("orders:read");
        assert_eq!((nearest.len(), nearest.first()), (3, Some(&"orders:read")));
    }

    #[test]
    fn sets_of_scopes_may_overlap() {
        let catalogue = catalogue();
        let [read, write] = ["orders:read", "orders:write"].map(|it| catalogue.find(it).unwrap());
        let both = read.or(write);
        assert_eq!(both.or(read), both);
        assert_eq!((both.and(read), both.minus(read)), (read, write));
        assert!(read.is_subset_of(both) && !both.is_subset_of(read));
    }
}
