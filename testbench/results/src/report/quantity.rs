//! Numbers with units, as people read them.

/// A value in its unit with a decimal prefix and three significant digits: `3.21 GB/s`, `22.1 M packets/s`.
/// Sizes (`bytes`) get binary prefixes, `12.4 MiB`.
#[must_use]
pub fn quantity(value: f64, unit: &str) -> String {
    match unit {
        "ns" => duration(value),
        "bytes" => scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]),
        "bytes/s" => scaled(value, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]),
        "bit/s" => scaled(value, 1000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]),
        _ => {
            let prefixed = scaled(value, 1000.0, &["", "k", "M", "G", "T"]);
            let text = if prefixed.ends_with(' ') { prefixed + unit } else { format!("{prefixed} {unit}") };
            // A bare number has no unit after the blank.
            text.trim_end().to_owned()
        }
    }
}

/// The same for a mark on an axis: with the unit where that is part of the prefix; otherwise the axis says it
/// once.
pub(super) fn mark(value: f64, unit: &str) -> String {
    match unit {
        "ns" | "bytes" | "bytes/s" | "bit/s" => quantity(value, unit),
        _ => quantity(value, ""),
    }
}

/// Nanoseconds with the unit that leaves one to three digits before the point.
pub(super) fn duration(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "\u{b5}s", "ms", "s"])
}

/// A share of a processor, or of anything, in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A count with its thousands apart.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or("");
    // 999.5 prints as 1000 with three digits, so it belongs to the next unit already.
    while value.abs() >= step - 0.5 {
        let Some(next) = units.next() else { break };
        value /= step;
        unit = next;
    }
    let whole = value.fract() == 0.0 && value.abs() < 1000.0;
    let decimals = match value.abs() {
        _ if whole => 0,
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_fitting_prefix() {
        let cases = [
            (0.0, "ns", "0 ns"),
            (842.0, "ns", "842 ns"),
            (1_600.0, "ns", "1.60 \u{b5}s"),
            (999_600.0, "ns", "1.00 ms"),
            (72_310.0, "ns", "72.3 \u{b5}s"),
            (2e12, "ns", "2000 s"),
            (22_123_456.0, "packets/s", "22.1 M packets/s"),
            (512.0, "requests/s", "512 requests/s"),
            (3.214e9, "bytes/s", "3.21 GB/s"),
            (31.508e9, "bit/s", "31.5 Gbit/s"),
            (12.4 * 1024.0 * 1024.0, "bytes", "12.4 MiB"),
        ];
        for (value, unit, text) in cases {
            assert_eq!(quantity(value, unit), text);
        }
    }

    #[test]
    fn a_mark_leaves_to_the_axis_what_all_marks_share() {
        assert_eq!(mark(2e5, "requests/s"), "200 k");
        assert_eq!(mark(3.0, "boards"), "3");
        assert_eq!(mark(2e3, "ns"), "2 \u{b5}s");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            ["7", "1\u{202f}000", "12\u{202f}345\u{202f}678"],
            [7, 1000, 12_345_678].map(grouped).as_slice()
        );
    }
}
