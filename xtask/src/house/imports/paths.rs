//! Which paths of its own crate a source file names, read from its tokens: in `use`, in expressions, in
//! macros. Left out is what stands below `#[cfg(test)]`, and documentation.

use std::iter::Peekable;

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree, token_stream::IntoIter};

/// A path of modules and names, without the `crate` at its start.
pub type Path = Vec<String>;

/// A path that a file names.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// The module in which it is named.
    pub module: Path,
    /// As it is written, `super` and `crate` included.
    pub path: Path,
    /// Counted from 1.
    pub line: usize,
    /// What the module calls it from there on, when a `use` of the module brings it in.
    pub import: Option<String>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    pub named: Vec<Named>,
    /// Modules that are written in the file itself.
    pub inline: Vec<Path>,
    /// Modules of tests that stand in files of their own.
    pub tests: Vec<Path>,
}

/// Reads the text of `module`.
pub fn read(module: &Path, text: &str) -> Result<Contents, proc_macro2::LexError> {
    let mut reader = Reader { contents: Contents::default(), module: module.clone(), is_module: true };
    reader.read(text.parse()?);
    Ok(reader.contents)
}

type Tokens = Peekable<IntoIter>;

struct Reader {
    contents: Contents,
    module: Path,
    /// Whether items stand in the module itself and not, for instance, in a function.
    is_module: bool,
}

impl Reader {
    fn read(&mut self, stream: TokenStream) {
        let mut tokens = stream.into_iter().peekable();
        let mut is_test = false;
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let is_inner = next_is(&mut tokens, '!');
                    let names_test = tokens.next().is_some_and(|group| is_for_tests(&group));
                    if is_inner && names_test {
                        return;
                    }
                    is_test |= names_test;
                }
                first if std::mem::take(&mut is_test) => self.skip(first, &mut tokens),
                TokenTree::Ident(ident) => self.word(&ident, &mut tokens),
                TokenTree::Group(group) => {
                    let was_module = std::mem::replace(&mut self.is_module, false);
                    self.read(group.stream());
                    self.is_module = was_module;
                }
                // A path that goes on from another one, and not from its own start.
                TokenTree::Punct(punct) if punct.as_char() == ':' && next_is(&mut tokens, ':') => {
                    next_name(&mut tokens);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Leaves out an item, and remembers the file it declares.
    fn skip(&mut self, first: TokenTree, tokens: &mut Tokens) {
        let mut last = first.to_string();
        let is_use = last == "use";
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    return self.contents.tests.push([&*self.module, &[last]].concat());
                }
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => return,
                token => last = token.to_string(),
            }
        }
    }

    fn word(&mut self, ident: &Ident, tokens: &mut Tokens) {
        match &*ident.to_string() {
            "use" => self.import(&Path::new(), tokens),
            // `pub(in crate::a)` depends on nothing.
            "pub" => drop(tokens.next_if(|token| token.to_string().starts_with('('))),
            "mod" => {
                let (Some(name), Some(TokenTree::Group(body))) = (next_name(tokens), tokens.next()) else {
                    return;
                };
                self.module.push(name);
                self.contents.inline.push(self.module.clone());
                self.read(body.stream());
                self.module.pop();
            }
            start @ ("crate" | "super" | "self") => {
                let mut path = vec![start.to_owned()];
                while next_is(tokens, ':') && next_is(tokens, ':') {
                    path.extend(next_name(tokens));
                }
                if path.len() > 1 {
                    self.name(path, ident, None);
                }
            }
            _ => {}
        }
    }

    /// Reads one tree of a `use`, up to the comma or semicolon behind it.
    fn import(&mut self, prefix: &Path, tokens: &mut Tokens) {
        let mut path = prefix.clone();
        let mut at = None;
        let mut name = None;
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(word) if word == "as" => name = tokens.next().map(|name| name.to_string()),
                // `super::{self}` is what stands before it.
                TokenTree::Ident(word) if word == "self" && !prefix.is_empty() => at = Some(word),
                TokenTree::Ident(word) => {
                    path.push(word.to_string());
                    at = Some(word);
                }
                TokenTree::Group(group) => {
                    let mut trees = group.stream().into_iter().peekable();
                    while trees.peek().is_some() {
                        self.import(&path, &mut trees);
                    }
                    at = None;
                }
                TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';') => break,
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        if let Some(at) = at {
            let name = name.or_else(|| path.last().cloned()).filter(|_| self.is_module);
            self.name(path, &at, name);
        }
    }

    fn name(&mut self, path: Path, at: &Ident, import: Option<String>) {
        let line = at.span().start().line;
        self.contents.named.push(Named { module: self.module.clone(), path, line, import });
    }
}

/// Takes the next token if it is `mark`.
fn next_is(tokens: &mut Tokens, mark: char) -> bool {
    tokens.next_if(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)).is_some()
}

/// Takes the next token if it is a name.
fn next_name(tokens: &mut Tokens) -> Option<String> {
    tokens.next_if(|token| matches!(token, TokenTree::Ident(_))).map(|name| name.to_string())
}

/// Whether an attribute is `#[test]` or `#[cfg(..)]` with `test`, but for `not(test)`.
fn is_for_tests(attribute: &TokenTree) -> bool {
    let text = attribute.to_string().replace(' ', "");
    let condition = text.strip_prefix("[cfg(").map(|rest| rest.replace("not(test)", ""));
    text == "[test]" || condition.is_some_and(|names| names.split(['(', ')', ',']).any(|name| name == "test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        let contents = read(&vec!["a".to_owned()], text).unwrap();
        let show = |Named { module, path, line, import }: &Named| {
            let import = import.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
            format!("{line}: {} in {}{import}", path.join("::"), module.join("::"))
        };
        contents.named.iter().map(show).collect()
    }

    #[test]
    fn every_leaf_of_an_import_is_a_path() {
        let text = "pub use crate::{\n    b::{self, C},\n    d::E as F,\n};\nuse super::*;\nuse std::fmt;";
        let expected = [
            "2: crate::b in a as b",
            "2: crate::b::C in a as C",
            "3: crate::d::E in a as F",
            "5: super in a as super",
            "6: std::fmt in a as fmt",
        ];
        assert_eq!(named(text), expected);
    }

    #[test]
    fn paths_stand_in_expressions_macros_and_modules_within_the_file() {
        let text = "fn f(x: &crate::b::C) -> u8 {\n    use self::d::E;\n    assert!(super::g::h::<u8>(self.x));\n}\n\
                    mod inner {\n    fn g() { x::crate_of(); $crate::i::J }\n}\npub(in crate::k) fn h() {}";
        let expected = [
            "1: crate::b::C in a",
            "2: self::d::E in a",
            "3: super::g::h in a",
            "6: crate::i::J in a::inner",
        ];
        assert_eq!(named(text), expected);
    }

    #[test]
    fn tests_and_documentation_name_nothing() {
        let text = "/// [x](crate::b)\n#[cfg(test)]\nuse crate::{c, d};\n#[cfg(test)]\n#[allow(missing_docs)]\n\
                    mod tests { use crate::e; }\n#[cfg(all(test, unix))]\npub(crate) mod limits;\n\
                    #[cfg(not(test))]\nuse crate::f;\n";
        assert_eq!(named(text), ["10: crate::f in a as f"]);
        assert_eq!(read(&Path::new(), text).unwrap().tests.last().unwrap(), &["limits"]);
        assert_eq!(named("#![cfg(test)]\nuse crate::e;"), [""; 0]);
    }
}
