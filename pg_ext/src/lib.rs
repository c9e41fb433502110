//! The Postgres extension `soa_fdw`.
pgrx::pg_module_magic!();
