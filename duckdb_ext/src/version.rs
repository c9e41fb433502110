//! The DuckDB release this extension speaks to, named once.

/// Hands the release's name, as a literal, to the macro `$then`: an attribute takes literals only.
///
/// DuckDB's C API version 2 has no stable surface yet, so the extension loads in exactly this release.
/// `stamp.py` reads the name from here and the tests install the release it names.
macro_rules! with_duckdb_version {
    ($then:ident) => {
        $then! { "v2.0.0" }
    };
}

pub(crate) use with_duckdb_version;
