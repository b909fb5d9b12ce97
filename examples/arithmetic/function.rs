//! Works out arithmetic with variables, by recursive descent: an expression in, its value or what is wrong with it out.

use serde::Deserialize;
use serde_json::{json, Value};
use std::{collections::HashMap, iter::Peekable, str::CharIndices};

#[derive(Deserialize)]
struct Request {
    expressions: Vec<String>,
    #[serde(default)]
    variables: HashMap<String, f64>,
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    variables: &'a HashMap<String, f64>,
}

impl<'a> Parser<'a> {
    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        while let Some(sign) = self.operator("+-") {
            let next = self.product()?;
            value += if sign == '+' { next } else { -next };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.factor()?;
        while let Some(sign) = self.operator("*/") {
            let next = self.factor()?;
            if sign == '/' && next == 0.0 {
                return Err("division by zero".into());
            }
            value = if sign == '*' { value * next } else { value / next };
        }
        Ok(value)
    }

    fn factor(&mut self) -> Result<f64, String> {
        if self.operator("-").is_some() {
            return self.factor().map(|value| -value);
        }
        if self.operator("(").is_some() {
            let value = self.sum()?;
            return self.operator(")").map(|_| value).ok_or_else(|| self.unexpected());
        }
        match self.word() {
            "" => Err(self.unexpected()),
            word if word.starts_with(char::is_numeric) => word.parse().map_err(|_| format!("{word} is no number")),
            name => self.variables.get(name).copied().ok_or_else(|| format!("unknown variable {name}")),
        }
    }

    fn operator(&mut self, any_of: &str) -> Option<char> {
        while self.rest.next_if(|(_, one)| one.is_whitespace()).is_some() {}
        self.rest.next_if(|(_, one)| any_of.contains(*one)).map(|(_, one)| one)
    }

    fn word(&mut self) -> &'a str {
        let start = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        while self.rest.next_if(|(_, one)| one.is_alphanumeric() || "._".contains(*one)).is_some() {}
        &self.text[start..self.rest.peek().map_or(self.text.len(), |(at, _)| *at)]
    }

    fn unexpected(&mut self) -> String {
        self.rest.peek().map_or("unexpected end".into(), |(at, one)| format!("unexpected {one:?} at {at}"))
    }
}

pub fn handle(input: &str) -> Result<String, serde_json::Error> {
    let Request { expressions, variables } = serde_json::from_str(input)?;
    let answer = |text: &String| {
        let mut parser = Parser { text, rest: text.char_indices().peekable(), variables: &variables };
        match parser.sum() {
            Ok(value) if parser.rest.peek().is_none() => json!({ "value": value }),
            Ok(_) => json!({ "error": parser.unexpected() }),
            Err(error) => json!({ "error": error }),
        }
    };
    Ok(expressions.iter().map(answer).collect::<Value>().to_string())
}
