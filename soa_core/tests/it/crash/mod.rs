//! Nothing that was acknowledged is lost and nothing is torn, whenever a process is killed or the power fails.

mod creation;
mod disk;
mod kill;
mod machine;
mod oracle;
mod random;
mod rng;
mod script;
mod session;
mod sim;
mod world;

pub(crate) use rng::Rng;

/// A number that the environment may set.
pub(crate) fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |number| number.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// How many crashes are tried, more or less.
fn crashes() -> usize {
    number("SOA_CRASHES", 300)
}

/// What random choices depend on, besides the order in which threads happen to run: another number each time, unless it is
/// given.
pub(crate) fn seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as usize);
    let seed = number("SOA_SEED", now);
    println!("SOA_SEED={seed}");
    seed as u64
}
