//! How many random cases a property is tried on, and which.

use std::env;

use proptest::test_runner::{Config, RngSeed};

/// The same `usual` cases in every run, on every machine; other ones where the environment asks for them, by their number
/// (`PROPTEST_CASES`) or seed (`PROPTEST_RNG_SEED`).
pub fn cases(usual: u32) -> Config {
    let asked = Config::default(); // which has looked at the environment
    let given = |name| env::var_os(name).is_some();
    let (number, seed) = (given("PROPTEST_CASES"), given("PROPTEST_RNG_SEED"));
    Config {
        cases: if number { asked.cases } else { usual },
        rng_seed: if number || seed { asked.rng_seed } else { RngSeed::Fixed(20_251_126) },
        ..asked
    }
}
