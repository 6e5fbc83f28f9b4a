//! Pieces of scenario files.

/// A server that captures what passes its switch.
pub fn server(execution: &str) -> String {
    format!("[server]\nname = \"process test\"\nexecution = {execution:?}\n[switch]\ncapture = true\n")
}

pub fn board(name: &str, functions: &[String]) -> String {
    format!("[[board]]\nname = {name:?}\nmemory_mib = 32\n{}", functions.concat())
}

/// A disk; `keys` say what holds its sectors, and more.
pub fn blk(keys: &str) -> String {
    format!("[[board.function]]\nkind = \"blk\"\n{keys}\n")
}

/// A network card whose address ends in `number`.
pub fn net(number: u8) -> String {
    format!("[[board.function]]\nkind = \"net\"\nmac = \"52:54:00:10:0b:{number:02x}\"\n")
}

/// Moves `file`, measures `reads` reads at each queue depth of 1 and 4, and as many round trips.
pub fn workload(file: &str, reads: u32) -> String {
    format!(
        "[workload]\nfile = {file:?}\n\
         [workload.blk]\nreads = {reads}\nqueue_depths = [1, 4]\n\
         [workload.net]\nround_trips = {reads}\n"
    )
}

pub fn kill(back_end: &str, after_ms: u32) -> String {
    format!("[[fault]]\nkill = {back_end:?}\nafter_ms = {after_ms}\n")
}
