//! The Postgres extension `soa_fdw`: SoA stores as foreign tables, read in place.
//!
//! ```sql
//! CREATE EXTENSION soa_fdw;
//! CREATE SERVER stores FOREIGN DATA WRAPPER soa_fdw OPTIONS (root '/data');
//! IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO public;   -- every store in /data
//! SELECT status, sum(amount) FROM orders GROUP BY status;
//! ```
//!
//! Postgres calls into `ffi`, where all unsafe code is; what is called from there is safe: `import` makes the tables,
//! `plan` estimates and plans, `scan` reads units and `rows` turns their columns into what Postgres has in slots.
//! `writing` goes the other way, and `transactions` keeps what is changed until Postgres commits.
//! `types` is the one place where the types of both sides are mapped; `numeric`, `array` and `jsonb` write values in the
//! formats that Postgres has in memory.

mod analyze;
mod array;
mod compute;
mod error;
mod ffi;
mod filter;
mod import;
mod jsonb;
mod location;
mod numeric;
mod options;
mod plan;
mod query;
mod rows;
mod scan;
mod snapshots;
mod statistics;
mod table;
mod transactions;
mod types;
mod varlena;
mod writing;
