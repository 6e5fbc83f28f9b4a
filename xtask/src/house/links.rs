//! Links between the documents lead somewhere.

use super::Violation;
use crate::tree::{File, Tree};

/// Every relative link of a Markdown file names a file or folder of the repository.
pub fn resolve(tree: &Tree) -> Vec<Violation> {
    let documents = tree.files.iter().filter(|file| file.extension() == "md");
    documents.flat_map(|file| dead_links(tree, file)).collect()
}

fn dead_links(tree: &Tree, file: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut fenced = false;
    for (index, line) in file.text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for target in targets(line).filter(|target| !leads_somewhere(tree, &file.path, target)) {
            violations.push(Violation::line(
                &file.path,
                index,
                format!("the link to `{target}` leads nowhere"),
            ));
        }
    }
    violations
}

/// Targets of inline links and images, `[text](target)`; what stands between backticks is no link.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let prose = line.split('`').step_by(2);
    prose.flat_map(|text| text.split("](").skip(1)).filter_map(|rest| rest.split([')', ' ']).next())
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let Some(path) = join(from, path) else { return false };
    let folder = format!("{path}/");
    path.is_empty() || tree.files.iter().any(|file| file.path == path || file.path.starts_with(&folder)) || {
        // A file that is no text (a picture) is not in the tree of texts.
        tree.root.join(&path).is_file()
    }
}

/// A path relative to the file that names it, as a path from the root; none when it leaves the repository.
fn join(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn a_link_leads_to_a_file_a_folder_or_out_of_the_repository() {
        let text = "[a](testing.md#seeds) [b](../README.md) [c](decisions) [d](https://example.org/x) [e](#here)\n\
                    ![f](gone.svg) and [g](../../outside.md)\n\
                    `[h](not-a-link)`\n\
                    ```\n[i](not-a-link-either)\n```\n\
                    [`j`](missing/file.rs)\n";
        let files = [
            ("docs/a.md", text),
            ("docs/testing.md", ""),
            ("README.md", ""),
            ("docs/decisions/0001-one.md", ""),
        ];
        let expected = [
            "2: the link to `gone.svg`",
            "2: the link to `../../outside.md`",
            "7: the link to `missing/file.rs`",
        ]
        .map(|what| format!("docs/a.md:{what} leads nowhere"));
        assert_eq!(broken(resolve, &files), expected);
    }
}
