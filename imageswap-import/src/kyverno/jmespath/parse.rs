//! Parses a text to an expression.

use super::{Comparison, Expr};
use serde_json::Value;

/// Deeper nesting is refused.
const DEPTH: usize = 32;
/// Longer texts are refused.
const LENGTH: usize = 8192;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Literal(Value),
    Number(i64),
    Symbol(&'static str),
}

const SYMBOLS: [&str; 22] = [
    "[?", "[]", "||", "&&", "==", "!=", "<=", ">=", "[", "]", "(", ")", "{", "}", ".", ",", "*",
    "@", "!", "<", ">", "|",
];

/// Parses an expression.
///
/// # Errors
/// A text that is not an expression, or one that this reader does not know.
pub(crate) fn parse(text: &str) -> Result<Expr, String> {
    if text.len() > LENGTH {
        return Err("an expression that is too long".to_owned());
    }
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
    };
    let expr = parser.expression(0)?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(format!("`{}` is not understood", text.trim())),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    'next: while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '\'' | '"' | '`' => quoted(rest, first)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
                let length = rest.find(|it| !is_name(it)).unwrap_or(rest.len());
                (Token::Name(rest[..length].to_owned()), length)
            }
            '0'..='9' | '-' => {
                let digits = rest[1..].find(|it: char| !it.is_ascii_digit());
                let length = digits.map_or(rest.len(), |it| it + 1);
                let number = rest[..length].parse();
                (Token::Number(number.map_err(|_not| unread(rest))?), length)
            }
            _ => {
                for symbol in SYMBOLS {
                    if rest.starts_with(symbol) {
                        tokens.push(Token::Symbol(symbol));
                        rest = rest[symbol.len()..].trim_start();
                        continue 'next;
                    }
                }
                return Err(unread(rest));
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn unread(rest: &str) -> String {
    let shown: String = rest.chars().take(20).collect();
    format!("`{shown}` is not understood")
}

/// A text in quotes and its length: `'raw'`, `"name"`, or JSON between backticks.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let mut escaped = false;
    let end = rest[1..].find(|it: char| {
        let ends = it == quote && !escaped;
        escaped = it == '\\' && !escaped;
        ends
    });
    let end = end.ok_or_else(|| unread(rest))? + 1;
    let inner = &rest[1..end];
    let token = match quote {
        '\'' => Token::Literal(Value::String(inner.replace("\\'", "'"))),
        '"' => Token::Name(serde_json::from_str(&rest[..=end]).map_err(|_not| unread(rest))?),
        _ => {
            let json = inner.replace("\\`", "`");
            let value = serde_json::from_str(json.trim());
            // An older form omits the quotes of a text.
            Token::Literal(value.unwrap_or(Value::String(json)))
        }
    };
    Ok((token, end + 1))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn symbol(&self) -> Option<&'static str> {
        match self.peek() {
            Some(Token::Symbol(it)) => Some(it),
            _ => None,
        }
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.symbol() == Some(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), String> {
        self.take(symbol)
            .then_some(())
            .ok_or_else(|| format!("expected `{symbol}` in an expression"))
    }

    /// Parses operators that bind more tightly than `least`.
    fn expression(&mut self, least: u8) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("an expression that is nested too deeply".to_owned());
        }
        let mut left = self.prefix()?;
        while let Some(symbol) = self.symbol() {
            let (power, comparison) = match symbol {
                "|" => (1, None),
                "||" => (2, None),
                "&&" => (3, None),
                "==" => (5, Some(Comparison::Equal)),
                "!=" => (5, Some(Comparison::NotEqual)),
                "<" => (5, Some(Comparison::Less)),
                "<=" => (5, Some(Comparison::LessOrEqual)),
                ">" => (5, Some(Comparison::Greater)),
                ">=" => (5, Some(Comparison::GreaterOrEqual)),
                "." | "[" | "[]" | "[?" => (10, None),
                _ => break,
            };
            if power <= least {
                break;
            }
            if power == 10 {
                left = self.postfix(left)?;
                continue;
            }
            self.at += 1;
            let right = Box::new(self.expression(power)?);
            let before = Box::new(left);
            left = match (symbol, comparison) {
                (_, Some(by)) => Expr::Compare(before, by, right),
                ("|", _) => Expr::Pipe(before, right),
                ("||", _) => Expr::Or(before, right),
                _ => Expr::And(before, right),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Expr, String> {
        let Some(token) = self.peek().cloned() else {
            return Err("an expression ends too early".to_owned());
        };
        match token {
            // As an operand, for example after `||`, this is an empty list.
            Token::Symbol("[]")
                if !matches!(self.tokens.get(self.at + 1), Some(Token::Symbol("." | "["))) =>
            {
                self.at += 1;
                return Ok(Expr::Literal(Value::Array(Vec::new())));
            }
            Token::Symbol("[" | "[]" | "[?") => return self.postfix(Expr::Current),
            Token::Symbol("*") => return Err("`*` is not read here".to_owned()),
            _ => self.at += 1,
        }
        match token {
            Token::Literal(value) => Ok(Expr::Literal(value)),
            Token::Name(name) => self.named(name),
            Token::Symbol("@") => Ok(Expr::Current),
            Token::Symbol("!") => Ok(Expr::Not(Box::new(self.expression(8)?))),
            Token::Symbol("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Number(_) | Token::Symbol(_) => {
                Err("an expression is not understood".to_owned())
            }
        }
    }

    fn named(&mut self, name: String) -> Result<Expr, String> {
        if !self.take("(") {
            return Ok(Expr::Field(name));
        }
        let mut arguments = Vec::new();
        while !self.take(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.expression(0)?);
        }
        Ok(Expr::Call(name, arguments))
    }

    /// The suffixes of a value: `.name`, `[0]`, `[]`, `[*]`, `[?condition]`, `.[a, b]`.
    fn postfix(&mut self, left: Expr) -> Result<Expr, String> {
        let left = Box::new(left);
        if self.take("[]") {
            let right = Box::new(self.projected()?);
            return Ok(Expr::Project(Box::new(Expr::Flatten(left)), right));
        }
        if self.take("[?") {
            let condition = self.expression(0)?;
            self.expect("]")?;
            let right = Box::new(self.projected()?);
            return Ok(Expr::Filter(left, Box::new(condition), right));
        }
        if self.take("[") {
            if let Some(Token::Number(at)) = self.peek().cloned() {
                self.at += 1;
                self.expect("]")?;
                return Ok(Expr::Index(left, at));
            }
            if self.take("*") {
                self.expect("]")?;
                let right = Box::new(self.projected()?);
                return Ok(Expr::Project(left, right));
            }
            return Ok(Expr::Sub(left, Box::new(self.list()?)));
        }
        self.expect(".")?;
        if self.take("*") {
            let right = Box::new(self.projected()?);
            return Ok(Expr::Values(left, right));
        }
        if self.take("[") {
            return Ok(Expr::Sub(left, Box::new(self.list()?)));
        }
        let Some(Token::Name(name)) = self.peek().cloned() else {
            return Err("expected a name after `.`".to_owned());
        };
        self.at += 1;
        let right = Box::new(self.named(name)?);
        Ok(Expr::Sub(left, right))
    }

    fn list(&mut self) -> Result<Expr, String> {
        let mut items = Vec::new();
        while !self.take("]") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.expression(0)?);
        }
        Ok(Expr::List(items))
    }

    /// The part that is applied to every element; a further `[]` ends it and flattens the result.
    fn projected(&mut self) -> Result<Expr, String> {
        let mut right = Expr::Current;
        while matches!(self.symbol(), Some("." | "[")) {
            right = self.postfix(right)?;
        }
        Ok(right)
    }
}
