//! The order of a list.

use crate::domain::named_enum;

named_enum! {
    /// The order of a list by age.
    pub enum ListOrder {
        /// The oldest first.
        Ascending => "asc",
        /// The newest first.
        Descending => "desc",
    }
}
