//! Benchmarks only: see `kernel.rs`.
