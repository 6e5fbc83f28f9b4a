//! What a run found: how it is measured, the schema in which it is kept, and how people see it.
//!
//! * the schema is one for every world, so that any two results can be laid side by side: [`RunResult`];
//! * [`measure`] takes latencies, processor shares, stages of a request;
//! * [`report`] shows a result on the terminal, as a page, and beside another one.
//!
//! Left out: what is run, and when it is measured.

pub mod measure;
pub mod report;
mod schema;
mod world;

pub use schema::*;
pub use world::{UnknownWorld, World};
