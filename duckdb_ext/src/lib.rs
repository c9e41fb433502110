//! The DuckDB extension `soa`: queries SoA stores in place.
//!
//! - `soa_scan(path, version := …, timestamp := …)` and `FROM 'orders.soa'` read a store's rows.
//! - `soa_schema(path)` lists its columns, `soa_segments(path)` the files its rows are in, `soa_history(path)` its commits, `soa_verify(path)` what is wrong.
//! - `COPY … TO 'orders.soa' (FORMAT soa)` makes a store, or appends to one.
//! - `soa_compact(path)` and `soa_vacuum(path)` look after it.
//!
//! `stamp.py` beside this crate's manifest turns the library into a file that DuckDB loads.

mod copy;
mod error;
mod ffi;
mod filter;
mod location;
mod replacement;
mod reports;
mod scan;
mod snapshots;
mod types;
mod version;

use duckdb_neo::extension::Extension;

use crate::error::{Step, arm_test_panics, guard};

/// Registers everything.
fn register(extension: &Extension) -> error::Result<()> {
    arm_test_panics();
    guard("soa", Step::Load, || {
        snapshots::register(extension)?;
        scan::register(extension)?;
        reports::register(extension)?;
        copy::register(extension)?;
        replacement::register(extension)
    })
}

/// DuckDB's entry into the library.
#[expect(unsafe_code, reason = "the attribute makes an exported function for DuckDB to call")]
#[expect(unreachable_pub, reason = "what is exported is the symbol, not the path")]
mod entry {
    use duckdb_loadable_macros::duckdb_entrypoint_c_api_v2;

    use super::{Extension, register};

    macro_rules! entrypoint {
        ($duckdb_version:tt) => {
            #[duckdb_entrypoint_c_api_v2(extension_name = "soa", api_version = $duckdb_version)]
            fn entrypoint(extension: &Extension) -> Result<(), Box<dyn std::error::Error>> {
                register(extension).map_err(Into::into)
            }
        };
    }

    crate::version::with_duckdb_version!(entrypoint);
}
