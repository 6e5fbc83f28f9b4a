//! vhost-user servers that shadow vrings are handed to: a disk and a switch.
