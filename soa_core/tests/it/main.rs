//! The integration tests, in one binary.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the failure of the test")]

mod arrow_edges;
mod crash;
mod derive;
mod edits;
mod fixtures;
mod fuzz;
mod log;
mod maintain;
mod memory;
mod model;
mod nested;
#[path = "../../examples/support/orders.rs"]
mod orders;
mod persistence;
mod records;
mod refused;
mod store;
mod stores;
mod surface;
mod transactions;
mod trust;
mod twin;
mod types;

/// The folder of the crate as cargo runs its tests: a clone of the workspace that shares a target folder with another one may have
/// been compiled there.
fn package() -> std::path::PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests").into()
}
