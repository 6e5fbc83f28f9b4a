//! The IO-Bond as code: front end, mailbox, shadow vrings.
