//! How the types of the domain are stored: the one place that reads and writes each of them.

use rusqlite::{
    Result, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::{
    domain::{
        account::{AccountKind, AccountStatus},
        address_list::AddressList,
        client_address::ClientAddress,
        event::ChainHash,
        id::{AccountId, KeyId},
        key_hash::KeyHash,
        merkle::TreeHash,
        plaintext_key::{KeyPrefix, PrefixLabel},
        scope::ScopeSet,
        text::{ExternalId, Metadata, Name},
    },
    env::Timestamp,
};

/// Types that are a text in the file: how it is read, and how it is written.
macro_rules! texts {
    ($($name:ident: $read:expr, $write:expr;)*) => {$(
        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let read: fn(&str) -> Option<Self> = $read;
                read(value.as_str()?).ok_or(FromSqlError::InvalidType)
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                let write: fn(&Self) -> ToSqlOutput<'_> = $write;
                Ok(write(self))
            }
        }
    )*};
}

texts! {
    AccountId: |it| Self::parse(it).ok(), |it| it.to_string().into();
    AccountKind: Self::parse, |it| it.as_str().into();
    AddressList: Self::from_stored, |it| it.to_string().into();
    ClientAddress: Self::from_stored, |it| it.to_string().into();
    AccountStatus: Self::parse, |it| it.as_str().into();
    ExternalId: |it| Self::parse(it).ok(), |it| it.as_str().into();
    KeyHash: Self::decode, |it| it.encode().into();
    KeyId: |it| Self::parse(it).ok(), |it| it.to_string().into();
    KeyPrefix: Self::from_stored, |it| it.as_str().into();
    Metadata: |it| Self::from_stored(it.to_owned()), |it| it.as_json().into();
    Name: |it| Some(Self::from_stored(it.to_owned())), |it| it.as_str().into();
    PrefixLabel: |it| Self::parse(it).ok(), |it| it.as_str().into();
    ScopeSet: Self::from_stored, |it| it.to_string().into();
}

/// Milliseconds since the beginning of 1970.
impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self::from_millis)
    }
}

impl ToSql for Timestamp {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(self.as_millis().into())
    }
}

/// Hashes, which are 32 bytes in the file.
macro_rules! hashes {
    ($($name:ident)*) => {$(
        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                FromSql::column_result(value).map(Self)
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }
    )*};
}

hashes! { ChainHash TreeHash }
