//! What a scenario with one mistake is answered with: the place, the key, and what was expected there.

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;

fn refuse(text: &str) -> ScenarioError {
    Scenario::parse("scenario.toml", text, Path::new("")).expect_err("a scenario with a typo was accepted")
}

/// Each text is refused with its message, as the command prints it behind the file's name.
fn are_refused<const N: usize>(cases: [(String, &str); N]) {
    for (text, expected) in cases {
        assert_eq!(refuse(&text).to_string(), format!("scenario.toml:{expected}"));
    }
}

/// [`GOOD`] with a guest on its first board.
fn guest(keys: &str) -> String {
    let right = "[[board]]\nname = \"right\"";
    spoil(&format!("\n{right}"), &format!("\n[board.guest]\n{keys}\n\n{right}"))
}

#[test]
fn unknown_keys_and_values() {
    are_refused([
        (
            spoil("memory_mib", "memroy_mib"),
            "6:1: board[0].memroy_mib: unknown key `memroy_mib`; did you mean `memory_mib`?",
        ),
        (
            spoil("size_mib", "siz_mib"),
            "10:1: board[0].function[0].siz_mib: unknown key `siz_mib`; did you mean `size_mib`?",
        ),
        (
            spoil("size_mib", "colour"),
            "10:1: board[0].function[0].colour: unknown key `colour`; expected one of `kind`, `image`, \
             `size_mib`, `serial`, `read_only`, `queues`, `mac`, `queue_pairs`, `queue_size`, `slot_size`, \
             `slots`, `limits`",
        ),
        (guest("cpu = 1"), "17:1: board[0].guest.cpu: unknown key `cpu`; did you mean `cpus`?"),
        (
            spoil("kind = \"blk\"", "kind = \"bkl\""),
            "9:8: board[0].function[0].kind: unknown value `bkl`; expected one of `blk`, `net`, `console`",
        ),
        (
            spoil("[server]\n", "[server]\npoll = \"bussy\"\n"),
            "2:8: server.poll: unknown value `bussy`; did you mean `busy`?",
        ),
    ]);
}

#[test]
fn wrong_types() {
    are_refused([
        (
            spoil("memory_mib = 64", "memory_mib = \"64\""),
            "6:14: board[0].memory_mib: found string \"64\"; expected a whole number",
        ),
        (
            spoil("memory_mib = 64", "memory_mib = -64"),
            "6:14: board[0].memory_mib: found integer `-64`; expected a whole number",
        ),
    ]);
}

#[test]
fn missing_keys() {
    are_refused([
        (
            spoil("memory_mib = 64\n", ""),
            "4:1: board[0]: key `memory_mib` is missing; expected `memory_mib` in this table",
        ),
        (
            spoil("mac = \"52:54:00:00:00:01\"\n", ""),
            "12:1: board[0].function[1]: key `mac` is missing; expected `mac` in this table, as a net function \
             has one",
        ),
        (
            spoil("size_mib = 8\n", ""),
            "8:1: board[0].function[0]: `image` and `size_mib` are both missing; expected one of the two in \
             this table",
        ),
    ]);
}

#[test]
fn values_out_of_range() {
    let seventeen: String = (0..17)
        .map(|n| {
            format!(
                "[[board]]\nname = \"b{n}\"\nmemory_mib = 16\n\
                 [[board.function]]\nkind = \"blk\"\nsize_mib = 1\n"
            )
        })
        .collect();
    are_refused([
        (
            spoil("memory_mib = 64", "memory_mib = 65536"),
            "6:14: board[0].memory_mib: found 65536; expected 16 to 2048 MiB",
        ),
        (
            guest("").replacen("memory_mib = 64", "memory_mib = 65537", 1),
            "6:14: board[0].memory_mib: found 65537; expected 16 to 65536 MiB",
        ),
        (guest("cpus = 0"), "17:8: board[0].guest.cpus: found 0; expected 1 to 16 processors"),
        (
            spoil("size_mib = 8", "size_mib = 8\nlimits = { iops = 0 }"),
            "11:19: board[0].function[0].limits.iops: found 0; expected 1 to 1000000000000",
        ),
        (
            spoil("size_mib = 8", "size_mib = 8\nslot_size = 3000"),
            "11:13: board[0].function[0].slot_size: found 3000; expected a power of two from 64 to 65536",
        ),
        (
            spoil("size_mib = 8", "size_mib = 8\nslot_size = 0"),
            "11:13: board[0].function[0].slot_size: found 0; expected a power of two from 64 to 65536",
        ),
        (
            spoil("[server]\n", "[server]\npoll_us = 1000001\n"),
            "2:11: server.poll_us: found 1000001; expected 0 to 1000000 microseconds",
        ),
        (
            spoil("reads = 100", "seconds = nan"),
            "26:11: workload.blk.seconds: found NaN; expected 0.05 to 600 seconds",
        ),
        ("[server]\nname = \"none\"\n".to_owned(), "1:1: board: found 0; expected 1 to 16 boards"),
        (format!("[server]\nname = \"many\"\n{seventeen}"), "3:1: board: found 17; expected 1 to 16 boards"),
    ]);
}

#[test]
fn values_that_are_there_twice() {
    are_refused([
        (
            spoil("52:54:00:00:00:02", "52:54:00:00:00:01"),
            "22:7: board[1].function[0].mac: 52:54:00:00:00:01 is board[0].function[1].mac already; expected an \
             address of its own",
        ),
        (
            spoil("\"right\"", "\"left\""),
            "17:8: board[1].name: left is board[0].name already; expected a name of its own",
        ),
        (
            spoil("reads = 100", "reads = 100\nseconds = 1.0"),
            "27:11: workload.blk.seconds: found `reads` and `seconds`; expected one of the two",
        ),
    ]);
}

#[test]
fn keys_of_another_kind_of_function() {
    are_refused([
        (
            spoil("queue_pairs = 2", "read_only = true"),
            "23:13: board[1].function[0].read_only: `read_only` is a key of blk functions; expected only keys of \
             a net function",
        ),
        (
            spoil("queue_pairs = 2", "limits = { iops = 5 }"),
            "23:19: board[1].function[0].limits.iops: `iops` is a key of blk functions; expected only keys of a \
             net function",
        ),
        (
            spoil("kind = \"blk\"", "kind = \"console\""),
            "10:12: board[0].function[0].size_mib: `size_mib` is a key of blk functions; expected only keys of a \
             console function",
        ),
    ]);
}

#[test]
fn files_and_back_ends_that_are_not_there() {
    are_refused([
        (
            spoil("size_mib = 8", "image = \"no-such.img\""),
            "10:9: board[0].function[0].image: cannot use no-such.img: No such file or directory (os error 2); \
             expected a regular file, named relative to the scenario",
        ),
        (
            guest("kernel = \"no-such-vmlinux\""),
            "17:10: board[0].guest.kernel: cannot use no-such-vmlinux: No such file or directory (os error 2); \
             expected a regular file, named relative to the scenario",
        ),
        (
            spoil("left.0", "left.1"),
            "30:8: fault[0].kill: no back end is called \"left.1\"; did you mean `left.0`?",
        ),
    ]);
}

#[test]
fn a_command_line_is_one_line() {
    are_refused([(
        guest("cmdline = \"a\\nb\""),
        "17:11: board[0].guest.cmdline: found \"a\\nb\"; expected printable ASCII characters",
    )]);
}

/// What is said of the address itself is bm-hypervisor's.
#[test]
fn malformed_and_group_addresses() {
    for address in ["52:54:00:00:01", "53:54:00:00:00:01"] {
        let said = refuse(&spoil("52:54:00:00:00:01", address)).to_string();
        assert!(
            said.starts_with(&format!("scenario.toml:14:7: board[0].function[1].mac: `{address}` is")),
            "{said}"
        );
        assert!(said.contains("; expected six hexadecimal bytes"), "{said}");
    }
}

#[test]
fn texts_that_are_not_toml() {
    are_refused([
        (spoil("[workload.blk]", "[workload.blk"), "25:14: found unclosed table; expected `]`"),
        (
            spoil("memory_mib = 64", "memory_mib = 64\nmemory_mib = 65"),
            "7:1: duplicate key; expected valid TOML",
        ),
    ]);
}

#[test]
fn a_mistake_is_shown_in_its_text() {
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(160)
        .render_report(&mut shown, &refuse(&spoil("size_mib", "siz_mib")))
        .unwrap();
    insta::assert_snapshot!(shown);
}

/// What stands below the 31 lines of [`GOOD`].
fn below(keys: &str) -> String {
    format!("{GOOD}\n{keys}")
}

#[test]
fn impossible_links() {
    let link = |name: &str, keys: &str| below(&format!("[timing.{name}]\ngeneration = \"gen3\"\n{keys}"));
    are_refused([
        (
            link("board", "lanes = 3\n"),
            "35:9: timing.board.lanes: lanes = 3: there is no such link; choose 1, 2, 4, 8, 12, 16 or 32",
        ),
        (
            link("base", "lanes = 8\nmax_payload = 1024\nmax_read_request = 512\n"),
            "36:15: timing.base.max_payload: max_payload = 1024 is more than max_read_request = 512, so no \
             completion could be so large; raise max_read_request or lower max_payload",
        ),
        (
            link("base", "lanes = 8\ncompletion_boundary = 32\n"),
            "36:23: timing.base.completion_boundary: completion_boundary = 32; a read completion boundary is 64 \
             or 128 bytes",
        ),
        (link("board", ""), "33:1: timing.board: key `lanes` is missing; expected `lanes` in this table"),
    ]);
}

#[test]
fn impossible_timings_and_designs() {
    are_refused([
        (
            below("[timing]\ndma.rate = 100_000_000_000\n"),
            "34:12: timing.dma.rate: rate = 100000000000 bit/s cannot be met: 32 bytes at 250 MHz are \
             64000000000 bit/s; lower rate, or raise width or clock_mhz",
        ),
        (
            below("[timing]\ndma.channels = 0\n"),
            "34:16: timing.dma.channels: channels = 0: no command would ever begin; choose more than 0",
        ),
        (
            below("[timing]\nboard_access = 12\n"),
            "34:16: timing.board_access: board_access = 12 ns cannot be met: request and completion are 12.456 \
             ns on the wire; raise it, or make timing.board faster",
        ),
        (
            below("[timing]\nboard_acces = 12\n"),
            "34:1: timing.board_acces: unknown key `board_acces`; did you mean `board_access`?",
        ),
        (
            below("[design]\nnotice = \"rings\"\n"),
            "34:10: design.notice: unknown value `rings`; did you mean `ring`?",
        ),
    ]);
}
