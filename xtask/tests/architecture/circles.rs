//! Finds circles between the modules of a crate: modules with the same parent that use each other,
//! directly or through others. A parent and its child may use each other.
//!
//! A use of anything below a module counts as a use of that module, and a re-export counts as a use
//! of the module that defines the item.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Ident, UseTree};

use crate::source;

/// The names of a module and its parents, from the crate's root.
type Module = Vec<String>;

/// The modules of a crate, and the paths in their code.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    known: BTreeMap<Module, Code>,
}

/// What a module names.
#[derive(Debug, Default)]
struct Code {
    /// Names that `use` declarations bind, with their paths as written.
    bound: BTreeMap<String, Vec<String>>,
    /// All paths, as written.
    paths: BTreeSet<Vec<String>>,
}

/// Modules that use each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    pub(crate) parent: Module,
    /// The names of the modules below `parent`.
    pub(crate) members: BTreeSet<String>,
    /// An example of each use: from, to.
    uses: BTreeSet<(String, String)>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.members.iter().map(String::as_str).collect();
        write!(f, "{}::{{{}}}", name(&self.parent), members.join(", "))?;
        for (from, to) in &self.uses {
            write!(f, "\n    {from} uses {to}")?;
        }
        Ok(())
    }
}

impl Modules {
    /// Reads a file without its tests, and the modules that are written out in it.
    pub(crate) fn read(&mut self, module: Module, text: &str) {
        let file = source::without_tests(text);
        self.known.entry(module.clone()).or_default();
        let mut reader = Reader {
            modules: self,
            module,
        };
        reader.visit_file(&file);
    }

    /// The circles of the crate, each as large as possible.
    pub(crate) fn circles(&self) -> Vec<Circle> {
        let mut found = Vec::new();
        for (parent, edges) in self.edges() {
            let reached: BTreeMap<_, _> = (edges.keys())
                .map(|from| (from.as_str(), reached_from(from, &edges)))
                .collect();
            let mut seen = BTreeSet::new();
            for (from, beyond) in &reached {
                let members: BTreeSet<_> = (beyond.iter())
                    .filter(|to| reached.get(*to).is_some_and(|it| it.contains(from)))
                    .map(|it| (*it).to_owned())
                    .collect();
                if members.len() < 2 || !seen.insert(members.clone()) {
                    continue;
                }
                let uses = (edges.iter())
                    .filter(|(from, _)| members.contains(*from))
                    .flat_map(|(_, to)| to.iter().filter(|(to, _)| members.contains(*to)))
                    .map(|(_, example)| example.clone())
                    .collect();
                found.push(Circle {
                    parent: parent.clone(),
                    members,
                    uses,
                });
            }
        }
        found
    }

    /// Which children of a module use which others, with an example of each.
    fn edges(&self) -> BTreeMap<Module, Edges> {
        let mut edges: BTreeMap<Module, Edges> = BTreeMap::new();
        for (module, code) in &self.known {
            for path in &code.paths {
                let Some((target, item)) = self.resolve(module, path, 0) else {
                    continue;
                };
                let shared = (module.iter().zip(&target))
                    .take_while(|(from, to)| from == to)
                    .count();
                let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) else {
                    continue; // one contains the other
                };
                let example = (name(module), format!("{}::{item}", name(&target)));
                edges
                    .entry(module[..shared].to_vec())
                    .or_default()
                    .entry(from.clone())
                    .or_default()
                    .entry(to.clone())
                    .or_insert(example);
            }
        }
        edges
    }

    /// The module of this crate that holds what `path` names in `module`, and the first name that
    /// is not a module.
    fn resolve(
        &self,
        module: &[String],
        path: &[String],
        depth: usize,
    ) -> Option<(Module, String)> {
        // Two declarations that name each other are not valid Rust.
        if depth > 16 {
            return None;
        }
        let mut at = module.to_vec();
        for (index, segment) in path.iter().enumerate() {
            match segment.as_str() {
                "crate" => at.clear(),
                "self" if index == 0 => {}
                "super" => {
                    at.pop();
                }
                _ => {
                    at.push(segment.clone());
                    if self.known.contains_key(&at) {
                        continue;
                    }
                    at.pop();
                    if let Some(bound) = self.known.get(&at).and_then(|it| it.bound.get(segment)) {
                        // `use a::a;` binds a name of another crate.
                        if bound[0] == *segment {
                            return None;
                        }
                        let rest = [bound.as_slice(), &path[index + 1..]].concat();
                        return self.resolve(&at, &rest, depth + 1);
                    }
                    // A name that nothing declares is an item of this module, or another crate.
                    let is_here = index > 0;
                    return is_here.then(|| (at, segment.clone()));
                }
            }
        }
        Some((at, "*".to_owned()))
    }
}

/// From a module to those it uses, with an example.
type Edges = BTreeMap<String, BTreeMap<String, (String, String)>>;

fn reached_from<'e>(from: &str, edges: &'e Edges) -> BTreeSet<&'e str> {
    let mut reached = BTreeSet::new();
    let mut rest = vec![from];
    while let Some(next) = rest.pop() {
        for to in edges.get(next).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(to.as_str()) {
                rest.push(to);
            }
        }
    }
    reached
}

fn name(module: &[String]) -> String {
    let parts: Vec<_> = ["crate"]
        .into_iter()
        .chain(module.iter().map(String::as_str))
        .collect();
    parts.join("::")
}

struct Reader<'m> {
    modules: &'m mut Modules,
    module: Module,
}

impl Reader<'_> {
    fn code(&mut self) -> &mut Code {
        self.modules.known.entry(self.module.clone()).or_default()
    }

    fn bind(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &Ident| [before, &[plain(name)]].concat();
        match tree {
            UseTree::Path(path) => self.bind(&with(&path.ident), &path.tree),
            UseTree::Group(group) => (group.items.iter()).for_each(|tree| self.bind(before, tree)),
            UseTree::Glob(_) => {
                self.code().paths.insert(before.to_vec());
            }
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = before.last() {
                    self.add(last.clone(), before.to_vec());
                }
            }
            UseTree::Name(name) => self.add(plain(&name.ident), with(&name.ident)),
            UseTree::Rename(rename) => self.add(plain(&rename.rename), with(&rename.ident)),
        }
    }

    fn add(&mut self, name: String, path: Vec<String>) {
        let code = self.code();
        code.paths.insert(path.clone());
        code.bound.insert(name, path);
    }

    /// Adds the paths in the tokens of a macro call.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.code().paths.insert(std::mem::take(&mut path));
                    }
                    path.push(plain(&ident));
                }
                other => {
                    self.code().paths.insert(std::mem::take(&mut path));
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
            colons = 0;
        }
        self.code().paths.insert(path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() {
            self.module.push(plain(&module.ident));
            self.code();
            syn::visit::visit_item_mod(self, module);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // A path that begins with `::` is another crate's.
        if item.leading_colon.is_none() {
            self.bind(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|segment| plain(&segment.ident));
            let segments = segments.collect();
            self.code().paths.insert(segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        syn::visit::visit_macro(self, call);
        self.scan(call.tokens.clone());
    }
}

fn plain(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let mut modules = Modules::default();
        for (module, text) in files {
            let module = module.split("::").filter(|it| !it.is_empty());
            modules.read(module.map(str::to_owned).collect(), text);
        }
        modules.circles().iter().map(Circle::to_string).collect()
    }

    #[test]
    fn planted_circles_are_found() {
        let root = "mod a; mod b; mod c; pub use b::{Item, other}; use a as renamed;";
        for (a, b) in [
            ("use crate::b::Item;", "use crate::a::f;"),
            ("use super::b;", "use super::a;"),
            ("fn f() { crate::b::g() }", "struct S(crate::a::T);"),
            ("use crate::Item;", "use crate::renamed::T;"),
            ("use crate::{Item as I};", "use super::{a::{self, f}};"),
            ("use crate::b::*;", "impl crate::a::Trait for X {}"),
            (
                "fn f() { vec![crate::b::g(1)] }",
                "fn g() { println!(\"{}\", super::a::C) }",
            ),
            (
                "fn f() { use crate::b; b::g() }",
                "fn g() -> Vec<crate::a::T> { h() }",
            ),
            (
                "mod inner { fn f() { super::super::b::g() } }",
                "use crate::a::inner::f;",
            ),
            (
                "use crate::b::Item;\n#[cfg(test)]\nmod tests;",
                "type T = <crate::a::X as Y>::Z;",
            ),
        ] {
            let found = circles(&[("", root), ("a", a), ("b", b)]);
            assert_eq!(found.len(), 1, "{a} {b}: {found:?}");
            assert!(found[0].starts_with("crate::{a, b}\n"), "{found:?}");
        }
        let three = [
            ("a", "use crate::b::f;"),
            ("b", "use crate::c::g;"),
            ("c", "use crate::a::h;"),
        ];
        assert!(circles(&three)[0].starts_with("crate::{a, b, c}\n"));
        let deep = [
            ("", ""),
            ("p", ""),
            ("p::a", "use super::b::x;"),
            ("p::b", ""),
            ("p::b::c", "use crate::p::a::y;"),
        ];
        assert!(circles(&deep)[0].starts_with("crate::p::{a, b}\n"));
    }

    #[test]
    fn other_uses_are_not_circles() {
        let root = "mod a; mod b; pub use b::Item; fn f() { a::f() }";
        for (a, b) in [
            ("use crate::b::Item;", "fn g() {}"),
            ("use crate::f;", "use super::f;"),
            (
                "use crate::b::Item;",
                "#[cfg(test)]\nmod tests { use crate::a::f; }",
            ),
            (
                "use crate::b::Item;",
                "/// See [`crate::a::f`].\nfn g() { let a = a; ::a::f(); }",
            ),
            ("use b::Item;", "use a::a;"),
            ("use crate::b::Item;", "const A: &str = \"crate::a::f\";"),
        ] {
            let found = circles(&[("", root), ("a", a), ("b", b)]);
            assert!(found.is_empty(), "{a} {b}: {found:?}");
        }
        let nested = [
            ("", "mod a;"),
            ("a", "mod b; use b::x; fn y() {}"),
            ("a::b", "use super::y; use crate::a::y;"),
        ];
        assert!(circles(&nested).is_empty());
    }
}
