//! Functions that are private to the crate, for the fuzz targets in `tests/fuzz`. Only the feature `fuzzing` builds
//! this module.

pub use crate::{
    cli::import::rows::{rows_of_lines, rows_of_table, take_key},
    http::{
        api::{
            events::{descending_cursor, event_cursor, read_cursor, read_descending_cursor},
            revision::expected_revision,
        },
        control::import::read_digest,
        request::client_address::is_local,
    },
};
