//! A Rust file as the tokens that are compiled outside tests: without comments, docs and items
//! under `#[cfg(test)]`, wherever these are.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;
use syn::{Attribute, ImplItem, Item, LitStr, Stmt, TraitItem, Visibility};

/// The identifiers and strings of a file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    identifiers: Vec<String>,
    strings: Vec<String>,
    public: Vec<String>,
}

impl Source {
    /// Reads `text`; panics if it is not Rust.
    pub(crate) fn parse(text: &str) -> Self {
        let mut file = without_tests(text);
        let mut source = Self::default();
        // A re-export does not count as a use.
        file.items.retain(
            |item| !matches!(item, Item::Use(item) if matches!(item.vis, Visibility::Public(_))),
        );
        let mut public = Public::default();
        public.visit_file(&file);
        source.public = public.0;
        source.read(file.into_token_stream());
        source
    }

    /// Whether the code has the identifier or keyword `word`.
    pub(crate) fn names(&self, word: &str) -> bool {
        self.identifiers.iter().any(|known| known == word)
    }

    /// Whether a string of the code contains `text`.
    pub(crate) fn quotes(&self, text: &str) -> bool {
        self.strings.iter().any(|string| string.contains(text))
    }

    /// Whether a string of the code is `text`.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.strings.iter().any(|string| string == text)
    }

    /// Whether a string is one of our metric names.
    pub(crate) fn quotes_metric(&self) -> bool {
        const BEGIN: [&str; 6] = [
            "imageswap_admission_",
            "imageswap_agent_",
            "imageswap_build_",
            "imageswap_policy_info",
            "imageswap_policy_last",
            "imageswap_tls_",
        ];
        BEGIN.iter().any(|begin| self.quotes(begin))
    }

    /// Every identifier and keyword of the code, as often as it occurs.
    pub(crate) fn identifiers(&self) -> impl Iterator<Item = &str> {
        self.identifiers.iter().map(String::as_str)
    }

    /// Functions, types, constants and traits that are `pub`, except methods of a trait.
    pub(crate) fn public(&self) -> impl Iterator<Item = &str> {
        self.public.iter().map(String::as_str)
    }

    fn read(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.read(group.stream()),
                TokenTree::Ident(ident) => {
                    let ident = ident.to_string();
                    let plain = ident.strip_prefix("r#").unwrap_or(&ident);
                    self.identifiers.push(plain.to_owned());
                }
                TokenTree::Literal(literal) => {
                    if let Ok(string) = syn::parse2::<LitStr>(TokenTree::from(literal).into()) {
                        self.strings.push(string.value());
                    }
                }
                TokenTree::Punct(_) => {}
            }
        }
    }
}

/// The code of a file that is compiled outside tests; panics if it is not Rust.
pub(crate) fn without_tests(text: &str) -> syn::File {
    let mut file = syn::parse_file(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    if file.attrs.iter().any(is_for_tests) {
        file.items.clear();
    }
    WithoutTests.visit_file_mut(&mut file);
    file
}

/// Removes docs and everything that is compiled for tests alone.
struct WithoutTests;

impl VisitMut for WithoutTests {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items
            .retain(|item| !attributes_of(item).any(is_for_tests));
        syn::visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| !attributes_of(item).any(is_for_tests));
        }
        syn::visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, block: &mut syn::ItemImpl) {
        block.items.retain(|item| {
            let attributes: &[Attribute] = match item {
                ImplItem::Const(item) => &item.attrs,
                ImplItem::Fn(item) => &item.attrs,
                ImplItem::Type(item) => &item.attrs,
                _ => &[],
            };
            !attributes.iter().any(is_for_tests)
        });
        syn::visit_mut::visit_item_impl_mut(self, block);
    }

    fn visit_item_trait_mut(&mut self, definition: &mut syn::ItemTrait) {
        definition.items.retain(
            |item| !matches!(item, TraitItem::Fn(item) if item.attrs.iter().any(is_for_tests)),
        );
        syn::visit_mut::visit_item_trait_mut(self, definition);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(|statement| {
            !matches!(statement, Stmt::Item(item) if attributes_of(item).any(is_for_tests))
        });
        syn::visit_mut::visit_block_mut(self, block);
    }

    fn visit_attributes_mut(&mut self, attributes: &mut Vec<Attribute>) {
        attributes.retain(|attribute| !attribute.path().is_ident("doc"));
    }
}

/// The names of public items.
#[derive(Default)]
struct Public(Vec<String>);

impl<'ast> Visit<'ast> for Public {
    fn visit_item(&mut self, item: &'ast Item) {
        let named = match item {
            Item::Const(item) => Some((&item.vis, &item.ident)),
            Item::Enum(item) => Some((&item.vis, &item.ident)),
            Item::Fn(item) => Some((&item.vis, &item.sig.ident)),
            Item::Static(item) => Some((&item.vis, &item.ident)),
            Item::Struct(item) => Some((&item.vis, &item.ident)),
            Item::Trait(item) => Some((&item.vis, &item.ident)),
            Item::Type(item) => Some((&item.vis, &item.ident)),
            _ => None,
        };
        if let Some((Visibility::Public(_), name)) = named {
            self.0.push(name.to_string());
        }
        syn::visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if matches!(function.vis, Visibility::Public(_)) {
            self.0.push(function.sig.ident.to_string());
        }
    }
}

/// Whether an item with this attribute is compiled for tests alone.
fn is_for_tests(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Meta>()
            .is_ok_and(|condition| needs_test(&condition))
}

/// Whether `condition` is true in tests alone: `test`, or an `all` with it.
fn needs_test(condition: &syn::Meta) -> bool {
    if condition.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = condition else {
        return false;
    };
    let parts = list
        .parse_args_with(syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated)
        .unwrap_or_default();
    list.path.is_ident("all") && parts.iter().any(needs_test)
}

fn attributes_of(item: &Item) -> impl Iterator<Item = &Attribute> {
    let attributes: &[Attribute] = match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    };
    attributes.iter()
}

/// The modules declared under `#[cfg(test)]` in `text`; their files are tests, too.
pub(crate) fn test_modules(text: &str) -> BTreeSet<String> {
    let Ok(file) = syn::parse_file(text) else {
        return BTreeSet::new();
    };
    file.items
        .iter()
        .filter(|item| attributes_of(item).any(is_for_tests))
        .filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn comments_docs_and_tests_are_left_out() {
    let source = Source::parse(
        "//! rustls here\n#[cfg(test)]\nmod early { fn f() { unsafe {} } }\n\
         #[cfg(test)]\nmod elsewhere;\n\
         use aya::Ebpf; /* unsafe */ const C: char = '\"';\n\
         /// rustls\nconst L: &'static str = \"a \\\" rustls\";\n\
         const R: &str = r#\"imageswap_agent_x \"quoted\" \"#;\n\
         impl X { #[cfg(all(test, unix))] fn t() { kube() } }\n\
         #[test]\nfn t() { hyper() }\n",
    );
    assert!(source.names("aya") && source.names("Ebpf"));
    for absent in ["rustls", "unsafe", "ay", "kube", "hyper"] {
        assert!(!source.names(absent), "{absent}");
    }
    assert!(source.says("a \" rustls"));
    assert!(source.quotes_metric());
}

#[test]
fn code_behind_a_module_of_tests_is_read() {
    let source =
        Source::parse("#[cfg(test)]\nmod tests;\nfn f() { log!(\"{}\", unsafe { aya::g() }) }\n");
    assert!(source.names("unsafe") && source.names("aya"));
}

#[test]
fn a_lint_is_not_unsafe_code() {
    assert!(!Source::parse("#![forbid(unsafe_code)]").names("unsafe"));
}

#[test]
fn public_items_are_listed() {
    let source = Source::parse(
        "pub fn a() {} pub(crate) fn b() {} fn c() {} pub struct D; impl D { pub fn e() {} fn f() {} }",
    );
    assert_eq!(source.public().collect::<Vec<_>>(), ["a", "D", "e"]);
}
