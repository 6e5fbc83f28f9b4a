//! Whatever a client sends is answered or ends its session: framing and session over a function that trusts
//! them.
#![no_main]

#[path = "../carry.rs"]
mod carry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = carry::carry(input);
});
