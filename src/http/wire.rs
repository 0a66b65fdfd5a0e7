//! JSON as clients see it. Names follow the API document: `camelCase`.
//!
//! The request types describe a body in the API document; the functions beside them read it. A
//! test holds the two together.

mod accounts;
mod checkpoints;
mod console_links;
mod development;
mod events;
mod fields;
mod keys;
mod leaked_keys;
mod limits;
mod tokens;
mod usage;
mod verify;

pub use self::{
    accounts::{
        AccountBody, AccountListBody, AccountStatusBody, CreateAccountRequest,
        UpdateAccountRequest, read_account_draft, read_account_patch,
    },
    checkpoints::{
        CheckpointBody, CheckpointKeyBody, CheckpointListBody, ConsistencyProofBody, EventProofBody,
    },
    console_links::{ConsoleLinkBody, CreateConsoleLinkRequest, read_console_link},
    development::{ClockBody, ClockMove, SampleListBody, read_clock_move},
    events::{EventBody, EventFilterQuery, EventListBody, EventTypeBody},
    fields::unknown_scope,
    keys::{
        ApiKeyBody, ApiKeyListBody, CreateKeyRequest, KeyFilterQuery, ListOrderBody,
        RotateKeyRequest, UpdateKeyRequest, read_declared_key, read_grace, read_key_patch,
        read_new_key,
    },
    leaked_keys::{LeakReport, LeakReportBody, ReportLeakedKeysRequest, read_leak_report},
    tokens::{TokenBody, TokenExchangeRequest, TokenRequest, read_token_request},
    usage::{KeyAddressesBody, UsageBody},
    verify::{
        ScopeBody, ScopeListBody, VerificationBody, VerifyKeyRequest, VerifyQuestion,
        read_plain_question, read_question,
    },
};
