//! One process per compute board: polls an IO-Bond and hands shadow vrings to vhost-user back ends.
