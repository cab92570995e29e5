//! A script as its parser sees it, with the bodies of functions and of `DO` opened up.

use std::rc::Rc;

use squawk_syntax::{
    Parse, SourceFile, SyntaxKind, SyntaxNode,
    ast::{self, AstNode, normalize_name_node},
};

/// A script that was parsed.
pub(super) struct Script<'t> {
    pub text: &'t str,
    pub parse: Parse<SourceFile>,
    trees: Vec<Tree>,
}

/// A piece of a script: the script itself, or a body that it holds as a string.
pub(super) struct Tree {
    root: SyntaxNode,
    pub place: Place,
    /// Where in the script a node of this tree is.
    locate: Rc<dyn Fn(&SyntaxNode) -> usize>,
}

/// Where a piece of SQL stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is a statement of the script.
    Script,
    /// In the body of a `DO`: it runs with the script.
    Do,
    /// In the body of a function: it runs when that is called.
    Function,
}

impl<'t> Script<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let parse = SourceFile::parse(text);
        let root = parse.syntax_node();
        let mut trees = Vec::new();
        open(Tree { root, place: Place::Script, locate: Rc::new(start) }, &mut trees);
        Self { text, parse, trees }
    }

    /// The first thing the parser could not make sense of.
    pub(super) fn error(&self) -> Option<(usize, String)> {
        let first = self.parse.errors().into_iter().min_by_key(|error| error.range().start())?;
        Some((usize::from(first.range().start()).min(self.text.len()), first.message().to_owned()))
    }

    /// The statements of the script itself.
    pub(super) fn statements(&self) -> impl Iterator<Item = SyntaxNode> {
        self.parse.syntax_node().children().filter(|node| node.kind() != SyntaxKind::EMPTY_STMT)
    }

    /// Everything in it, with the tree that it stands in.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Tree, SyntaxNode)> {
        self.trees.iter().flat_map(|tree| tree.root.descendants().map(move |node| (tree, node)))
    }

    /// The comments outside of bodies, with their offsets.
    pub(super) fn comments(&self) -> impl Iterator<Item = (usize, String)> {
        let tokens = self.parse.syntax_node().descendants_with_tokens().filter_map(|element| element.into_token());
        tokens
            .filter(|token| token.kind() == SyntaxKind::COMMENT)
            .map(|token| (usize::from(token.text_range().start()), token.text().to_owned()))
    }
}

impl Tree {
    /// Where in the script the node begins.
    pub(super) fn offset(&self, node: &SyntaxNode) -> usize {
        (self.locate)(node)
    }
}

/// Where a node begins in its own tree.
fn start(node: &SyntaxNode) -> usize {
    node.text_range().start().into()
}

/// Adds the tree, and those of the bodies in it.
fn open(tree: Tree, trees: &mut Vec<Tree>) {
    let top = tree.place == Place::Script;
    let mut inner = Vec::new();
    for node in tree.root.descendants() {
        let place = match node.kind() {
            SyntaxKind::DO => Place::Do,
            SyntaxKind::CREATE_FUNCTION | SyntaxKind::CREATE_PROCEDURE => Place::Function,
            // EXECUTE of a constant runs where it stands.
            SyntaxKind::PLPGSQL_DYN_EXECUTE_STMT => tree.place,
            _ => continue,
        };
        // A body within a body is found at the beginning of the outer one's statement.
        let here = tree.offset(&node);
        let mut add = |root: SyntaxNode, locate: Rc<dyn Fn(&SyntaxNode) -> usize>| {
            let locate = if top { locate } else { Rc::new(move |_: &SyntaxNode| here) };
            inner.push(Tree { root, place, locate });
        };
        if let Some(body) = plpgsql(&node) {
            let root = body.syntax();
            add(root, Rc::new(move |node| body.source_range(node.text_range()).start().into()));
        } else if let Some(body) = sql(&node) {
            let root = body.syntax();
            add(root, Rc::new(move |node| body.source_range(node.text_range()).start().into()));
        } else if let Some(text) = executed(&node) {
            let parse = SourceFile::parse(&text);
            if parse.errors().is_empty() {
                add(parse.syntax_node(), Rc::new(move |_| here));
            }
        }
    }
    trees.push(tree);
    for tree in inner {
        open(tree, trees);
    }
}

fn plpgsql(node: &SyntaxNode) -> Option<squawk_syntax::plpgsql::Plpgsql> {
    match node.kind() {
        SyntaxKind::DO => ast::Do::cast(node.clone())?.plpgsql(),
        SyntaxKind::CREATE_FUNCTION => ast::CreateFunction::cast(node.clone())?.plpgsql(),
        _ => ast::CreateProcedure::cast(node.clone())?.plpgsql(),
    }
}

fn sql(node: &SyntaxNode) -> Option<squawk_syntax::sql_body::SqlBody> {
    match node.kind() {
        SyntaxKind::CREATE_FUNCTION => ast::CreateFunction::cast(node.clone())?.sql_body(),
        _ => ast::CreateProcedure::cast(node.clone())?.sql_body(),
    }
}

/// The text of `EXECUTE '…'`.
fn executed(node: &SyntaxNode) -> Option<String> {
    let target = node.descendants().find(|inner| inner.kind() == SyntaxKind::TARGET)?;
    ast::Literal::cast(target.first_child()?)?.string_value()
}

/// The last names of the paths in nodes of this kind, without their schemas.
pub(super) fn names(within: &SyntaxNode, kind: SyntaxKind) -> Vec<String> {
    within.descendants().filter(|node| node.kind() == kind).map(|node| last_name(&node)).collect()
}

/// The last name of a path.
pub(super) fn last_name(node: &SyntaxNode) -> String {
    let is_name = |kind| matches!(kind, SyntaxKind::PATH_SEGMENT | SyntaxKind::PATH_SEGMENT_REF);
    let names = node.descendants().filter(|inner| is_name(inner.kind()));
    names.last().map(|name| normalize_name_node(&name)).unwrap_or_default()
}

/// The name of the function that is called, without its schema.
pub(super) fn called(call: &SyntaxNode) -> Option<String> {
    let function = call.first_child()?;
    match function.kind() {
        SyntaxKind::NAME_REF => Some(normalize_name_node(&function)),
        SyntaxKind::FIELD_EXPR => function.children().last().map(|name| normalize_name_node(&name)),
        _ => None,
    }
}

/// The text of a call's first argument, if it is a constant.
pub(super) fn argument(call: &SyntaxNode) -> Option<String> {
    let list = call.children().find(|child| child.kind() == SyntaxKind::ARG_LIST)?;
    let first = list.children().next()?.first_child()?;
    ast::Literal::cast(first)?.string_value()
}

/// Whether this is the type of a column that takes its values from a sequence.
pub(super) fn is_serial(node: &SyntaxNode) -> bool {
    const SERIALS: &[&str] = &["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"];
    node.kind() == SyntaxKind::PATH_TYPE && SERIALS.contains(&&*node.text().to_string().to_lowercase())
}
