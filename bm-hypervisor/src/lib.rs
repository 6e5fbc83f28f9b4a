//! One process per compute board: polls an IO-Bond and hands its shadow vrings to vhost-user back ends.

pub mod port;
