//! What the two sides of an IO-Bond agree on: registers, rings, layouts; no logic.
