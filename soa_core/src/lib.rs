//! Struct-of-arrays data that lives in memory, on disk and in SQL engines at once.
//!
//! `soa_core` holds the struct-of-arrays kernel, its zero-copy conversion to Arrow and a crash-safe store.
//!
//! ```
//! use soa_core::kernel::StoredRecord;
//! use soa_core::predicate::{CompareOp, Predicate, Scalar};
//! use soa_core::scan::ScanRequest;
//! use soa_core::store::Store;
//! use soa_core::{SoA, SoAStore};
//!
//! #[derive(Debug, Clone, Copy, PartialEq, SoA)]
//! enum Status {
//!     Pending,
//!     Shipped,
//! }
//!
//! #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
//! #[soa_store(key = "order_id")]
//! struct Order {
//!     order_id: u64,
//!     customer: String,
//!     quantity: u32,
//!     status: Status,
//!     note: Option<String>,
//! }
//!
//! # fn order(order_id: u64, quantity: u32) -> Order {
//! #     Order { order_id, customer: "Ada".to_owned(), quantity, status: Status::Pending, note: None }
//! # }
//! # fn main() -> soa_core::Result<()> {
//! // One packed column per field …
//! let mut orders = OrderSoA::new();
//! orders.push(order(1, 5));
//! orders.push(order(2, 7));
//! assert_eq!(orders.quantity_raw_array(), [5, 7]);
//! assert_eq!(orders.view(1).customer, "Ada");
//!
//! // … that Arrow shares without a copy, until one of the two is written.
//! let batch = orders.to_record_batch();
//! *orders.view_mut(0).quantity() += 1;
//! assert_eq!(orders.view(0).quantity, 6);
//! assert_eq!(OrderSoA::from_record_batch(batch)?.view(0).quantity, 5);
//!
//! // In memory, found by key.
//! let mut store = OrderStore::new();
//! store.add(order(7, 1))?;
//! store.update(&7, |mut order| order.set_status(Status::Shipped))?;
//! assert_eq!(store.get(&7).map(|order| order.status), Some(Status::Shipped));
//!
//! // On disk: a batch is one commit, and DuckDB and every reader of Delta Lake query the folder in place.
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("orders.soa");
//! let disk = Store::create(&path, Order::table_schema())?;
//! disk.append(&[orders.to_record_batch()])?;
//! let large = Predicate::compare(2, CompareOp::Gt, Scalar::Int(6));
//! let plan = disk.snapshot()?.plan(&ScanRequest { columns: vec![0], predicate: Some(large), limit: None })?;
//! let rows: usize = (0..plan.units().len()).map(|unit| Ok(plan.read_filtered(unit)?.num_rows())).sum::<soa_core::Result<usize>>()?;
//! assert_eq!(rows, 1);
//! # Ok(())
//! # }
//! ```
//!
//! From then on it is SQL, in each of them, while the program goes on writing:
//!
//! ```sql
//! -- DuckDB
//! LOAD soa;
//! SELECT customer, sum(quantity) FROM 'orders.soa' GROUP BY customer;
//!
//! -- Postgres
//! CREATE SERVER stores FOREIGN DATA WRAPPER soa_fdw OPTIONS (root '/data');
//! IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO public;
//! SELECT customer, sum(quantity) FROM orders GROUP BY customer;
//! ```
//!
//! # Where things are
//!
//! [`kernel`] has the columns, the types that fields can have and the stores in memory; [`store`] the folder: commits, the
//! write-ahead log, upserts, maintenance; [`scan`] reads it and [`predicate`] says what of it; [`schema`] is what all of them
//! speak.
//!
//! # Features
//!
//! All are off by default.
//!
//! | feature | adds |
//! |---|---|
//! | `datafusion` | a snapshot as a table of DataFusion |
//! | `rayon` | `par_iter` over the rows of columns |
//! | `rust_decimal` | fields of the type `rust_decimal::Decimal` |
//! | `serde` | columns as sequences of records, views as records |

// The derived code names this crate; so do the derives in its own tests.
extern crate self as soa_core;

mod convert;
#[cfg(feature = "datafusion")]
pub mod datafusion;
pub mod error;
pub mod kernel;
#[cfg(feature = "persistence")]
pub mod persistence;
pub mod predicate;
pub mod scan;
pub mod schema;
pub mod store;

/// The Arrow implementation whose types this crate's interface speaks.
pub use arrow;
pub use error::{Error, ErrorKind, Result};
pub use kernel::Record;
pub use soa_core_derive::{SoA, SoAStore};
