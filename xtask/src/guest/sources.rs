//! Which Debian mirror this machine uses, from apt's own sources: sources.list(5), one-line style and deb822
//! style.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// Where the keys of the archive lie that Debian itself ships.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One source of packages, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// A file of keys; none for apt's own set, or for keys that stand in the source itself.
    signed_by: Option<PathBuf>,
}

/// A mirror of the Debian archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Mirror {
    /// As it stands in the machine's sources; any scheme that its apt knows.
    pub uri: String,
    /// The keys that verify it.
    pub keyring: PathBuf,
}

/// The mirror that this machine installs Debian's main component from.
///
/// # Errors
/// When the machine is no Debian, when none of its sources names the release that it runs, and when the keys
/// of the archive are missing.
pub fn mirror() -> Result<Mirror> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let Some(codename) = codename(&release) else {
        bail!(
            "guests are built from Debian's packages and this machine is no Debian; install QEMU >= 10.1 on a Debian"
        );
    };
    let sources = read(Path::new("/etc/apt"))?;
    let found = choose(&sources, codename).with_context(|| {
        format!("no source below /etc/apt offers `main` of {codename}; the guest's packages come from the same mirror")
    })?;
    if !found.keyring.exists() {
        bail!("{} is missing; run `apt-get install debian-archive-keyring`", found.keyring.display());
    }
    Ok(found)
}

/// The code name of a Debian release from os-release(5); none on other systems, testing and unstable are
/// `sid`.
fn codename(release: &str) -> Option<&str> {
    let value = |name: &str| {
        let mut fields = release.lines().filter_map(|line| line.split_once('='));
        fields.find(|(field, _)| *field == name).map(|(_, value)| value.trim_matches('"'))
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME").unwrap_or("sid"))
}

/// Everything that apt would read: `sources.list`, then `sources.list.d` in the order of names.
fn read(etc: &Path) -> Result<Vec<Source>> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        let mut parts: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.exists()) {
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line,
            Some("sources") => deb822,
            // apt ignores every other name.
            _ => continue,
        };
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        sources.extend(parse(&text));
    }
    Ok(sources)
}

/// The first source that carries `main` of this release itself; its updates and its security archive are
/// elsewhere.
fn choose(sources: &[Source], codename: &str) -> Option<Mirror> {
    let suites = [codename, "stable", "oldstable", "testing", "unstable", "sid"];
    let fits = |source: &&Source| {
        source.components.iter().any(|component| component == "main")
            && source.suites.iter().any(|suite| suites.contains(&&**suite))
    };
    let from = |source: &Source| {
        let uri = source.uris.iter().find(|uri| !uri.starts_with("cdrom:"))?;
        let keyring = source.signed_by.clone().unwrap_or_else(|| KEYRING.into());
        Some(Mirror { uri: uri.clone(), keyring })
    };
    sources.iter().filter(fits).find_map(from)
}

/// `deb [option=value ...] uri suite [component ...]`
fn one_line(text: &str) -> Vec<Source> {
    let parse = |line: &str| {
        let rest = line.split('#').next()?.trim_start().strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace().map(str::to_owned);
        Some(Source {
            uris: vec![words.next()?],
            suites: vec![words.next()?],
            components: words.collect(),
            signed_by: signed_by.and_then(key_file),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Stanzas of `Field: value`, where a line that starts with a blank continues the field above.
fn deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]).filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            sources.extend(stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn stanza(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| &**value);
    let words = |name: &str| {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let enabled = !field("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    (enabled && words("types").iter().any(|kind| kind == "deb")).then(|| Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").and_then(key_file),
    })
}

/// `Signed-By` names a file by its absolute path, or carries fingerprints or a whole key.
fn key_file(value: &str) -> Option<PathBuf> {
    let first = value.split([',', ' ']).next()?;
    first.starts_with('/').then(|| first.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_carry_options_and_comments() {
        let text = "\
# deb http://mirror.example/commented bookworm main
deb-src http://mirror.example/debian bookworm main
  deb [ arch=amd64 signed-by=/usr/share/keyrings/ours.gpg ] http://mirror.example/debian bookworm main contrib # here
deb\thttp://mirror.example/security bookworm-security main
deb cdrom:[Debian]/ bookworm main
debris http://mirror.example/debian bookworm main
";
        let sources = one_line(text);
        assert_eq!(sources.len(), 3);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        let keyring = "/usr/share/keyrings/ours.gpg".into();
        let expected = Mirror { uri: "http://mirror.example/debian".into(), keyring };
        assert_eq!(choose(&sources, "bookworm"), Some(expected));
        assert_eq!(choose(&sources, "trixie"), None);
    }

    #[test]
    fn a_stanza_may_be_disabled_folded_and_signed_by_a_key_of_its_own() {
        let text = "\
Types: deb
URIs: http://mirror.example/disabled
Suites: bookworm
Components: main
Enabled: no

# The stanza below is the one.
types: deb deb-src
URIs:
 http://mirror.example/debian
# a comment inside
 http://other.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJ
 -----END PGP PUBLIC KEY BLOCK-----
";
        let sources = deb822(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        let expected = Mirror { uri: "http://mirror.example/debian".into(), keyring: KEYRING.into() };
        assert_eq!(choose(&sources, "bookworm"), Some(expected));
    }

    #[test]
    fn the_archive_is_taken_and_not_its_security_updates_nor_a_disc() {
        let text = "\
deb cdrom:[Debian]/ bookworm main
deb http://mirror.example/security bookworm-security main
deb http://mirror.example/extra bookworm contrib
deb mirror+file:/etc/apt/mirrors/debian.list stable main
";
        let found = choose(&one_line(text), "bookworm").unwrap();
        assert_eq!(found.uri, "mirror+file:/etc/apt/mirrors/debian.list");
    }

    #[test]
    fn only_debian_has_a_code_name_of_debian() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(codename("ID=debian\n"), Some("sid"));
        assert_eq!(codename("ID=\"fedora\"\nVERSION_CODENAME=\"\"\n"), None);
    }
}
