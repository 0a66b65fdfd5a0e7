//! A macro for enums whose variants have names outside of the program.

/// Declares an enum with one name for each variant, and with `ALL`, `as_str` and `parse`.
macro_rules! named_enum {
    (
        $(#[$doc:meta])*
        pub enum $Enum:ident { $($(#[$variant_doc:meta])* $Variant:ident => $name:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $Enum { $($(#[$variant_doc])* $Variant,)+ }

        impl $Enum {
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$Variant,)+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Variant => $name,)+
                }
            }

            /// Returns the variant with this name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|it| it.as_str() == name)
            }
        }
    };
}

pub(crate) use named_enum;
