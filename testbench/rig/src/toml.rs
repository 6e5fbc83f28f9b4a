//! Pieces of scenario files.

/// A server about which there is no more to say.
pub const SERVER: &str = "[server]\nname = \"a test\"\n";

/// A server that captures what passes its switch.
pub fn server(execution: &str) -> String {
    format!("[server]\nname = \"process test\"\nexecution = {execution:?}\n[switch]\ncapture = true\n")
}

pub fn board(name: &str, functions: &[String]) -> String {
    format!("[[board]]\nname = {name:?}\nmemory_mib = 32\n{}", functions.concat())
}

/// A board that boots Linux: a console, and `functions` behind it.
pub fn linux(name: &str, cpus: u8, memory_mib: u32, functions: &[String]) -> String {
    let guest = format!("[board.guest]\ncpus = {cpus}\n[[board.function]]\nkind = \"console\"\n");
    format!("[[board]]\nname = {name:?}\nmemory_mib = {memory_mib}\n{guest}{}", functions.concat())
}

/// Two of them that reach each other, `board0` and `board1`: each with its disks as function 1 and further,
/// and a network card behind them. `cpus` are those of `board0`.
pub fn linux_pair(cpus: u8, disks: [&[&str]; 2]) -> String {
    let functions = |board: u8| {
        let disks = disks[usize::from(board)].iter().map(|keys| blk(keys));
        disks.chain([net(board)]).collect::<Vec<_>>()
    };
    [SERVER, &linux("board0", cpus, 256, &functions(0)), &linux("board1", 1, 256, &functions(1))].concat()
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
