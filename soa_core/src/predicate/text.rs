//! Conditions as text: what people type to say which rows they mean.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use uuid::Uuid;

use super::{CompareOp, Predicate, Scalar};
use crate::error::{Error, Result};
use crate::schema::{DAY_MICROS, DataType, Field, Schema};

/// Digits of a second that a duration may have after the point.
const MICRO_DIGITS: u8 = 6;
/// Conditions within conditions, at most: each takes a part of the stack.
const DEPTH_MAX: usize = 64;

impl Scalar {
    /// Reads a value of a column as people write it: `42`, `12.50`, `true`, text as it is, bytes as hexadecimal digits, days
    /// as `2024-02-29`, timestamps as `2024-02-29 12:34:56.789`, those with time zone in UTC unless an offset follows (`+01:00`, `Z`),
    /// times of day as `12:34:56.789`, durations in seconds (`-1.5`), UUIDs with or without hyphens.
    ///
    /// # Errors
    ///
    /// When it is no value of the column; it is never rounded.
    pub fn parse(text: &str, field: &Field) -> Result<Self> {
        let value = match field.data_type() {
            DataType::Bool => text.to_ascii_lowercase().parse().ok().map(Self::Bool),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64 => text.parse().ok().map(Self::Int),
            DataType::Float32 | DataType::Float64 => text.parse().ok().map(Self::Float),
            DataType::Decimal { scale, .. } => decimal(text, *scale).map(Self::Int),
            DataType::Utf8 => Some(Self::Utf8(text.to_owned())),
            DataType::Enum(variants) => variants.index_of(text).map(|_| Self::Utf8(text.to_owned())),
            DataType::Binary => bytes(text).map(Self::Binary),
            DataType::Date => day(text).map(Self::Int),
            DataType::Timestamp { utc } => micros(text, *utc).map(Self::Int),
            DataType::Time => time_of_day(text).map(Self::Int),
            DataType::Duration => {
                decimal(text, MICRO_DIGITS).filter(|micros| i64::try_from(*micros).is_ok()).map(Self::Int)
            }
            DataType::Uuid => Uuid::try_parse(text).ok().map(|uuid| Self::Binary(uuid.into_bytes().to_vec())),
            DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => {
                let message = format!("no condition can compare values of type {}", field.data_type());
                return Err(Error::value(field.name(), message));
            }
        };
        value.ok_or_else(|| {
            let known = match field.data_type() {
                DataType::Enum(variants) => format!("; its variants are {}", variants.names().join(", ")),
                _ => String::new(),
            };
            Error::value(field.name(), format!("{text:?} is no value of type {}{known}", field.data_type()))
        })
    }
}

/// The unscaled digits.
fn decimal(text: &str, scale: u8) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let is_number = digits.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() + fraction.len() == 0 {
        return None;
    }
    // What is behind the last digit of the column must be nothing.
    let kept = fraction.trim_end_matches('0');
    let missing = usize::from(scale).checked_sub(kept.len())?;
    format!("{whole}{kept}{}", "0".repeat(missing)).parse().ok()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Days since 1970.
fn day(text: &str) -> Option<i128> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some((day.num_days_from_ce() - NaiveDate::default().num_days_from_ce()).into())
}

/// Microseconds since 1970.
fn micros(text: &str, utc: bool) -> Option<i128> {
    let text = text.replacen(' ', "T", 1);
    let with_offset =
        DateTime::parse_from_rfc3339(&text).or_else(|_| DateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f%#z"));
    let time = match with_offset {
        Ok(time) if utc => time.naive_utc(),
        Ok(_) => return None,
        Err(_) => ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok())
            .or_else(|| NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?,
    };
    (time.nanosecond() % 1000 == 0).then(|| time.and_utc().timestamp_micros().into())
}

/// Microseconds since midnight.
fn time_of_day(text: &str) -> Option<i128> {
    if ["24:00", "24:00:00"].contains(&text) {
        return Some(DAY_MICROS.into());
    }
    let time = ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok())?;
    let nanos = i128::from(time.num_seconds_from_midnight()) * 1_000_000_000 + i128::from(time.nanosecond());
    // A leap second is no time of its own.
    (nanos % 1000 == 0 && time.nanosecond() < 1_000_000_000).then_some(nanos / 1000)
}

impl Predicate {
    /// Reads a condition on the columns of a table, as SQL writes it: comparisons (`=`, `<>`, `<`, `<=`, `>`, `>=`) of a column with a
    /// constant, `IN (…)`, `BETWEEN … AND …`, `LIKE 'prefix%'`, `IS NULL` and the `NOT` of these, joined by `AND`, `OR`, `NOT` and
    /// parentheses. Text, days and times are in single quotes, bytes as `x'0aff'`; a column's name that is not made of
    /// letters, digits and `_`, or is a word of SQL, is in double quotes. Names are matched exactly.
    ///
    /// # Errors
    ///
    /// When it is no such condition, there is no such column, or a constant is no value of its column.
    pub fn parse(text: &str, schema: &Schema) -> Result<Self> {
        let mut parser = Parser { text, schema, tokens: tokens(text)?, at: 0, depth: 0 };
        let predicate = parser.any()?;
        match parser.tokens.get(parser.at) {
            None => Ok(predicate),
            Some(_) => Err(parser.expected("AND, OR or the end")),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A name or a keyword.
    Word(String),
    /// A name in double quotes.
    Name(String),
    Number(String),
    Text(String),
    Bytes(String),
    Symbol(&'static str),
}

/// What a condition is made of, and where each part begins.
fn tokens(text: &str) -> Result<Vec<(Token, usize)>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let start = at;
        let rest = &text[at..];
        let long = |is_part: &dyn Fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let token = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if let Some(quoted) = rest.strip_prefix(['x', 'X']).filter(|quoted| quoted.starts_with('\'')) {
            let (content, len) = unquote(quoted, '\'').ok_or_else(|| unread(text, start, "a quote that ends"))?;
            at += 1 + len;
            Token::Bytes(content)
        } else if first == '\'' || first == '"' {
            let (content, len) = unquote(rest, first).ok_or_else(|| unread(text, start, "a quote that ends"))?;
            at += len;
            if first == '"' { Token::Name(content) } else { Token::Text(content) }
        } else if first.is_ascii_digit() || "+-.".contains(first) {
            let sign = usize::from("+-".contains(first));
            let mut len =
                sign + rest[sign..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len() - sign);
            // The sign of an exponent.
            if rest[..len].ends_with(['e', 'E']) && rest[len..].starts_with(['+', '-']) {
                len += 1 + rest[len + 1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - len - 1);
            }
            at += len;
            Token::Number(rest[..len].to_owned())
        } else if first.is_alphabetic() || first == '_' {
            let len = long(&|c| c.is_alphanumeric() || c == '_');
            at += len;
            Token::Word(rest[..len].to_owned())
        } else {
            let known = ["<=", ">=", "<>", "!=", "=", "<", ">", "(", ")", ","];
            let symbol = known.into_iter().find(|symbol| rest.starts_with(symbol));
            let symbol = symbol.ok_or_else(|| unread(text, start, "a column, an operator or a constant"))?;
            at += symbol.len();
            Token::Symbol(symbol)
        };
        tokens.push((token, start));
    }
    Ok(tokens)
}

/// What is between quotes, in which two of them are one, and how many bytes all that takes.
fn unquote(text: &str, quote: char) -> Option<(String, usize)> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            content.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return Some((content, at + c.len_utf8()));
        }
    }
    None
}

fn unread(text: &str, at: usize, expected: &str) -> Error {
    let rest: String = text[at..].chars().take(30).collect();
    let there = if rest.is_empty() { "at its end".to_owned() } else { format!("at: {rest}") };
    Error::argument(format!("the condition cannot be read {there} (expected {expected})"))
}

struct Parser<'a> {
    text: &'a str,
    schema: &'a Schema,
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn expected(&self, what: &str) -> Error {
        unread(self.text, self.tokens.get(self.at).map_or(self.text.len(), |(_, at)| *at), what)
    }

    fn next(&mut self, what: &str) -> Result<Token> {
        let (token, _) = self.tokens.get(self.at).cloned().ok_or_else(|| self.expected(what))?;
        self.at += 1;
        Ok(token)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_next =
            matches!(self.tokens.get(self.at), Some((Token::Word(next), _)) if next.eq_ignore_ascii_case(word));
        self.at += usize::from(is_next);
        is_next
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_next = matches!(self.tokens.get(self.at), Some((Token::Symbol(next), _)) if *next == symbol);
        self.at += usize::from(is_next);
        is_next
    }

    fn need(&mut self, is_taken: bool, what: &str) -> Result<()> {
        if is_taken { Ok(()) } else { Err(self.expected(what)) }
    }

    fn deeper(&mut self, part: impl FnOnce(&mut Self) -> Result<Predicate>) -> Result<Predicate> {
        if self.depth == DEPTH_MAX {
            return Err(Error::argument(format!(
                "the condition has more than {DEPTH_MAX} conditions within each other"
            )));
        }
        self.depth += 1;
        let read = part(self);
        self.depth -= 1;
        read
    }

    fn any(&mut self) -> Result<Predicate> {
        let mut parts = vec![self.all()?];
        while self.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Predicate::Or))
    }

    fn all(&mut self) -> Result<Predicate> {
        let mut parts = vec![self.part()?];
        while self.take_word("and") {
            parts.push(self.part()?);
        }
        Ok(one_or(parts, Predicate::And))
    }

    fn part(&mut self) -> Result<Predicate> {
        if self.take_word("not") {
            return Ok(Predicate::Not(Box::new(self.deeper(Self::part)?)));
        }
        if self.take_symbol("(") {
            let inner = self.deeper(Self::any)?;
            let is_closed = self.take_symbol(")");
            self.need(is_closed, "AND, OR or )")?;
            return Ok(inner);
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Predicate> {
        let column = match self.next("a column")? {
            Token::Word(name) | Token::Name(name) => self.schema.require_column(&name)?,
            _ => {
                self.at -= 1;
                return Err(self.expected("a column, on the left of its operator"));
            }
        };
        if self.take_word("is") {
            let is_not = self.take_word("not");
            let is_null = self.take_word("null");
            self.need(is_null, "NULL")?;
            return Ok(if is_not { Predicate::is_not_null(column) } else { Predicate::IsNull(column) });
        }
        if self.take_word("not") {
            return Ok(Predicate::Not(Box::new(self.word_condition(column)?)));
        }
        let operators = [
            ("=", CompareOp::Eq),
            ("<>", CompareOp::NotEq),
            ("!=", CompareOp::NotEq),
            ("<", CompareOp::Lt),
            ("<=", CompareOp::LtEq),
            (">", CompareOp::Gt),
            (">=", CompareOp::GtEq),
        ];
        for (symbol, op) in operators {
            if self.take_symbol(symbol) {
                return Ok(Predicate::compare(column, op, self.constant(column)?));
            }
        }
        self.word_condition(column)
    }

    /// What can stand behind a column, and behind its NOT.
    fn word_condition(&mut self, column: usize) -> Result<Predicate> {
        if self.take_word("between") {
            let low = self.constant(column)?;
            let has_and = self.take_word("and");
            self.need(has_and, "AND and the upper bound")?;
            return Ok(Predicate::between(column, low, self.constant(column)?));
        }
        if self.take_word("in") {
            let is_open = self.take_symbol("(");
            self.need(is_open, "a list of constants in parentheses")?;
            let mut values = vec![self.constant(column)?];
            while self.take_symbol(",") {
                values.push(self.constant(column)?);
            }
            let is_closed = self.take_symbol(")");
            self.need(is_closed, ", or )")?;
            return Ok(Predicate::In { column, values });
        }
        if self.take_word("like") {
            let expected = "text with one % at its end";
            let Token::Text(pattern) = self.next(expected)? else {
                self.at -= 1;
                return Err(self.expected(expected));
            };
            let prefix = pattern.strip_suffix('%').filter(|prefix| !prefix.contains(['%', '_', '\\']));
            let prefix = prefix.map(str::to_owned).ok_or_else(|| {
                self.at -= 1;
                self.expected(expected)
            })?;
            let predicate = Predicate::StartsWith { column, prefix };
            predicate.check(self.schema)?;
            return Ok(predicate);
        }
        Err(self.expected("=, <>, <, <=, >, >=, IN, BETWEEN, LIKE or IS"))
    }

    fn constant(&mut self, column: usize) -> Result<Scalar> {
        let field = self.schema.field(column);
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::Enum(_) | DataType::Uuid);
        let is_bytes = *field.data_type() == DataType::Binary;
        match self.next("a constant")? {
            Token::Text(text) if !is_bytes => Scalar::parse(&text, field),
            Token::Bytes(text) if is_bytes => Scalar::parse(&text, field),
            Token::Number(text) if !is_text && !is_bytes => Scalar::parse(&text, field),
            Token::Word(text) if *field.data_type() == DataType::Bool => Scalar::parse(&text, field),
            Token::Word(text) if text.eq_ignore_ascii_case("null") => {
                self.at -= 1;
                Err(self.expected("a constant; NULL is found by IS NULL"))
            }
            _ => {
                self.at -= 1;
                Err(self.expected(match (is_text, is_bytes) {
                    (true, _) => "text in single quotes",
                    (_, true) => "bytes, such as x'0aff'",
                    _ => "a constant",
                }))
            }
        }
    }
}

fn one_or(mut parts: Vec<Predicate>, joined: impl FnOnce(Vec<Predicate>) -> Predicate) -> Predicate {
    match (parts.len(), parts.pop()) {
        (1, Some(one)) => one,
        (_, last) => joined(parts.into_iter().chain(last).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Variants;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("id", DataType::Int64),
            Field::new("name", DataType::Utf8),
            Field::nullable("price", DataType::Decimal { precision: 9, scale: 2 }),
            Field::nullable("day", DataType::Date),
            Field::nullable("at", DataType::Timestamp { utc: true }),
            Field::nullable("wall", DataType::Timestamp { utc: false }),
            Field::nullable("level", DataType::Enum(Variants::new(["low", "high"]).unwrap())),
            Field::nullable("raw", DataType::Binary),
            Field::nullable("f", DataType::Float64),
            Field::nullable("select", DataType::Bool),
            Field::nullable("a-b", DataType::UInt64),
            Field::nullable("tod", DataType::Time),
            Field::nullable("took", DataType::Duration),
            Field::nullable("uid", DataType::Uuid),
        ])
        .unwrap()
    }

    fn parse(text: &str) -> Predicate {
        Predicate::parse(text, &schema()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn conditions_are_what_sql_says() {
        let int = |column, op, value| Predicate::compare(column, op, Scalar::Int(value));
        let cases = [
            ("id = 5", int(0, CompareOp::Eq, 5)),
            ("id<-5", int(0, CompareOp::Lt, -5)),
            ("id != +5", int(0, CompareOp::NotEq, 5)),
            ("id <> 5", int(0, CompareOp::NotEq, 5)),
            ("name>='O''Hara'", Predicate::compare(1, CompareOp::GtEq, Scalar::Utf8("O'Hara".into()))),
            ("price = 12.5", int(2, CompareOp::Eq, 1250)),
            ("price > '-0.100'", int(2, CompareOp::Gt, -10)),
            ("day < '1970-01-03'", int(3, CompareOp::Lt, 2)),
            ("at = '1970-01-01 01:00:00.5+01:00'", int(4, CompareOp::Eq, 500_000)),
            ("at = '1970-01-01T00:00:01Z'", int(4, CompareOp::Eq, 1_000_000)),
            ("at = '1970-01-01 00:00:01+00'", int(4, CompareOp::Eq, 1_000_000)),
            ("at = '1970-01-02'", int(4, CompareOp::Eq, 86_400_000_000)),
            ("wall <= '1969-12-31 23:59:59.999999'", int(5, CompareOp::LtEq, -1)),
            ("level = 'high'", Predicate::eq(6, Scalar::Utf8("high".into()))),
            ("raw = x'0aFF'", Predicate::eq(7, Scalar::Binary(vec![10, 255]))),
            ("f > 1.5e-3", Predicate::compare(8, CompareOp::Gt, Scalar::Float(0.0015))),
            ("f = 2", Predicate::eq(8, Scalar::Float(2.0))),
            ("\"select\" = TRUE", Predicate::eq(9, Scalar::Bool(true))),
            ("\"a-b\" = 18446744073709551615", int(10, CompareOp::Eq, u64::MAX.into())),
            ("tod >= '23:59:59.000001'", int(11, CompareOp::GtEq, 86_399_000_001)),
            ("tod < '24:00'", int(11, CompareOp::Lt, 86_400_000_000)),
            ("took < -1.5", int(12, CompareOp::Lt, -1_500_000)),
            ("took = '0.000001'", int(12, CompareOp::Eq, 1)),
            (
                "uid = '00112233-4455-6677-8899-aabbccddeeff'",
                Predicate::eq(13, Scalar::Binary((0..16).map(|n| n * 0x11).collect())),
            ),
            ("id is null", Predicate::IsNull(0)),
            ("id IS NOT NULL", Predicate::is_not_null(0)),
            ("id In (1, 2)", Predicate::In { column: 0, values: vec![Scalar::Int(1), Scalar::Int(2)] }),
            ("id between 1 and 2", Predicate::between(0, Scalar::Int(1), Scalar::Int(2))),
            ("name LIKE 'ab%'", Predicate::StartsWith { column: 1, prefix: "ab".into() }),
            ("name NOT LIKE '%'", Predicate::Not(Box::new(Predicate::StartsWith { column: 1, prefix: String::new() }))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn and_binds_more_tightly_than_or_and_not_more_than_both() {
        let [a, b, c] = [1, 2, 3].map(|value| Predicate::eq(0, Scalar::Int(value)));
        let not = |part: &Predicate| Predicate::Not(Box::new(part.clone()));
        let or = Predicate::Or(vec![a.clone(), Predicate::And(vec![b.clone(), c.clone()])]);
        assert_eq!(parse("id = 1 OR id = 2 AND id = 3"), or);
        let and = Predicate::And(vec![Predicate::Or(vec![a.clone(), b.clone()]), c.clone()]);
        assert_eq!(parse("(id = 1 OR id = 2) AND id = 3"), and);
        assert_eq!(parse("NOT id = 1 AND id = 2 AND NOT (id=3)"), Predicate::And(vec![not(&a), b, not(&c)]));
        let between = Predicate::And(vec![Predicate::between(0, Scalar::Int(1), Scalar::Int(2)), c]);
        assert_eq!(parse("id BETWEEN 1 AND 2 AND id = 3"), between);
    }

    #[test]
    fn what_is_no_condition_is_refused_where_it_ends_to_be_one() {
        let deep = format!("{}id = 1{}", "(".repeat(100), ")".repeat(100));
        let cases = [
            ("", "at its end"),
            ("id", "expected =,"),
            ("id = ", "at its end"),
            ("id = 1 id = 2", "at: id = 2"),
            ("id = 1 AND", "at its end"),
            ("(id = 1", "expected AND, OR or )"),
            ("id = 1)", "at: )"),
            ("id = 1; DROP TABLE x", "at: ; DROP"),
            ("5 = id", "at: 5 = id"),
            ("id = name", "at: name"),
            ("id = 1.5", "\"1.5\" is no value of type i64"),
            ("id = 1e3", "\"1e3\" is no value"),
            ("id = NULL", "IS NULL"),
            ("id = 'a", "a quote that ends"),
            ("name = 5", "text in single quotes"),
            ("name = yes", "text in single quotes"),
            ("price = 0.125", "is no value of type decimal(9,2)"),
            ("price = .", "is no value"),
            ("day = '2024-02-30'", "is no value of type date"),
            ("wall = '2024-01-01T00:00:00Z'", "is no value of type timestamp"),
            ("at = '2024-01-01 00:00:00.0000001'", "is no value"),
            ("level = 'hihg'", "low, high"),
            ("raw = 'ff'", "x'0aff'"),
            ("tod = '24:01'", "is no value of type time"),
            ("tod = '12:00:60'", "is no value of type time"),
            ("took = 0.0000001", "is no value of type duration"),
            ("uid = '0011'", "is no value of type uuid"),
            ("raw = x'0'", "is no value of type binary"),
            ("nope = 1", "no column \"nope\""),
            ("ID = 1", "no column \"ID\""),
            ("id IN ()", "a constant"),
            ("id IN 1", "in parentheses"),
            ("name LIKE '%a'", "one % at its end"),
            ("name LIKE 'a_%'", "one % at its end"),
            ("id LIKE '1%'", "cannot be compared"),
            ("id BETWEEN 1 OR 2", "upper bound"),
            (&deep, "within each other"),
        ];
        for (text, says) in cases {
            let error = Predicate::parse(text, &schema()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
