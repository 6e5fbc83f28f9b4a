//! The option `--world`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use results::World;

/// Takes one of `worlds` by its name; help says what each is.
pub(super) fn one_of(worlds: &[World]) -> impl TypedValueParser<Value = World> + use<> {
    let value = |world: &World| PossibleValue::new(world.name()).help(world.about());
    PossibleValuesParser::new(worlds.iter().map(value)).try_map(|name| name.parse())
}
