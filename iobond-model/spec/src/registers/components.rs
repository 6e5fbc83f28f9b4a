//! SystemRDL component definitions
#![allow(non_camel_case_types)] // needed for type normalization suffixes

use super::_root; // alias to root module of generated code

pub mod board_t;
pub mod function_t;
pub mod ident_t;
pub mod iobond;
pub mod mailbox_kind_e;
pub mod mailbox_t;
pub mod qos_t;
pub mod queue_error_e;
pub mod queue_state_e;
pub mod queue_t;
pub mod status_page_t;
pub mod window_t;
