//! The kernel's tests once more, with the few dependencies that they need: so few that all of them are compiled anew for
//! AddressSanitizer in minutes (`make sanitize`).
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the failure of the test")]

#[path = "../tests/it/arrow_edges.rs"]
mod arrow_edges;
#[path = "../tests/it/derive.rs"]
mod derive;
#[path = "../tests/it/memory.rs"]
mod memory;
#[path = "../tests/it/model.rs"]
mod model;
#[path = "../examples/support/orders.rs"]
mod orders;
#[path = "../tests/it/records.rs"]
mod records;
#[path = "../tests/it/stores.rs"]
mod stores;
#[path = "../tests/it/surface.rs"]
mod surface;
#[path = "../tests/it/types.rs"]
mod types;
