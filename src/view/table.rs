//! Text tables: columns that fit their content, numbers to the right, two spaces between columns.
//! Knows nothing about terminals: whoever prints says how wide and whether in colour. A cell can
//! never contain a control character.

use unicode_width::UnicodeWidthChar;
use unicode_width::UnicodeWidthStr;

use super::human;

const GAP: &str = "  ";
/// A column that must give way keeps at least this many cells.
const FLEXIBLE_WIDTH_MIN: usize = 12;
/// So that one keeps as many as these, columns that can be done without are left out.
const FLEXIBLE_WIDTH_GOOD: usize = 16;

/// To which side a column's cells are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
    /// Text that is cut, with an ellipsis, where the line would be too long.
    Flexible,
}

/// A column's heading and alignment.
pub type Column = (&'static str, Align);

/// What a cell means, for those who see colours; the text says the same without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing to remark.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Broken.
    Bad,
    /// Less important than the rest.
    Dim,
}

/// One cell: text without control characters, and its tone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a tone; control characters in `text` are escaped.
    pub fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        let text = text.as_ref();
        let text = if text.chars().any(char::is_control) {
            human::escape(text.as_bytes())
        } else {
            text.to_owned()
        };
        Self { text, tone }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Something that is shown as one row of a table.
pub trait Row {
    /// The columns, in order.
    const COLUMNS: &'static [Column];
    /// The headings of those that a terminal which is too narrow does without, the least important first.
    const OPTIONAL: &'static [&'static str] = &[];

    /// One cell for each column; `now_ms` is the Unix time that "ago" refers to.
    fn cells(&self, now_ms: u64) -> Vec<Cell>;
}

/// How a table is to be printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; `None` for a pipe, where nothing is cut.
    pub width: Option<usize>,
    /// Whether ANSI colours may be used.
    pub colour: bool,
}

impl Style {
    /// For files and pipes: nothing is cut, nothing is coloured.
    pub const PLAIN: Self = Self {
        width: None,
        colour: false,
    };

    /// `text` in the colour of `tone`, if colours are on.
    pub fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Plain => return text.to_owned(),
        };
        self.wrap(text, code)
    }

    /// `text` as a heading.
    pub fn heading(self, text: &str) -> String {
        self.wrap(text, "1")
    }

    fn wrap(self, text: &str, code: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A table of `rows` under the headings of their type, one line each, ending in a newline.
pub fn render<R: Row>(rows: &[R], now_ms: u64, style: Style) -> String {
    let rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.cells(now_ms)).collect();
    let kept = kept(R::COLUMNS, R::OPTIONAL, &rows, style.width);
    let columns: Vec<Column> = kept.iter().map(|&index| R::COLUMNS[index]).collect();
    let cells = |row: Vec<Cell>| kept.iter().map(|&index| row[index].clone()).collect();
    let rows: Vec<Vec<Cell>> = rows.into_iter().map(cells).collect();
    render_cells(&columns, &rows, style)
}

/// The same, or one line that says that there are none of `what`.
pub fn render_or_none<R: Row>(rows: &[R], what: &str, now_ms: u64, style: Style) -> String {
    if rows.is_empty() {
        format!("no {what}\n")
    } else {
        render(rows, now_ms, style)
    }
}

fn render_cells(columns: &[Column], rows: &[Vec<Cell>], style: Style) -> String {
    let widths = fit(columns, rows, style.width);
    let mut text = String::new();
    let headings: Vec<Cell> = columns
        .iter()
        .map(|(heading, _)| Cell::from(*heading))
        .collect();
    for (index, row) in std::iter::once(&headings).chain(rows).enumerate() {
        let mut line = String::new();
        let last = columns.len().saturating_sub(1);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cut = cut(&cell.text, *width);
            let padding = " ".repeat(width.saturating_sub(cut.width()));
            let painted = if index == 0 {
                style.heading(&cut)
            } else {
                style.paint(&cut, cell.tone)
            };
            match columns[column].1 {
                Align::Right => line.extend([padding.as_str(), &painted]),
                Align::Left | Align::Flexible if column == last => line.push_str(&painted),
                Align::Left | Align::Flexible => line.extend([painted.as_str(), &padding]),
            }
            if column < last {
                line.push_str(GAP);
            }
        }
        text.push_str(line.trim_end_matches(' '));
        text.push('\n');
    }
    text
}

/// The columns that are shown: without so many optional ones that the rest fits.
fn kept(
    columns: &[Column],
    optional: &[&str],
    rows: &[Vec<Cell>],
    line_width: Option<usize>,
) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let mut widths = widest_cells(columns, rows);
    for (width, (_, align)) in widths.iter_mut().zip(columns) {
        if *align == Align::Flexible {
            *width = (*width).min(FLEXIBLE_WIDTH_GOOD);
        }
    }
    for heading in optional {
        let needed: Vec<usize> = kept.iter().map(|&index| widths[index]).collect();
        if line_width.is_none_or(|line_width| line(&needed) <= line_width) {
            break;
        }
        kept.retain(|&index| columns[index].0 != *heading);
    }
    kept
}

/// How wide a line is with columns of these widths.
fn line(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

fn widest_cells(columns: &[Column], rows: &[Vec<Cell>]) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|(heading, _)| heading.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    widths
}

/// The width of each column: its widest cell, the flexible ones cut so that a line fits.
fn fit(columns: &[Column], rows: &[Vec<Cell>], line_width: Option<usize>) -> Vec<usize> {
    let mut widths = widest_cells(columns, rows);
    let Some(line_width) = line_width else {
        return widths;
    };
    let mut wanted = line(&widths);
    while wanted > line_width {
        let widest = (0..columns.len())
            .filter(|&column| {
                columns[column].1 == Align::Flexible && widths[column] > FLEXIBLE_WIDTH_MIN
            })
            .max_by_key(|&column| widths[column]);
        let Some(widest) = widest else { break };
        let surplus = (wanted - line_width).min(widths[widest] - FLEXIBLE_WIDTH_MIN);
        // Not more than down to the next flexible column at once, so that two share the loss.
        let next = (0..columns.len())
            .filter(|&column| column != widest && columns[column].1 == Align::Flexible)
            .map(|column| widths[column])
            .max()
            .unwrap_or(0);
        let step = surplus.min(widths[widest].saturating_sub(next).max(1));
        widths[widest] -= step;
        wanted -= step;
    }
    widths
}

/// `text`, or its beginning and an ellipsis if it is wider than `width`.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 0;
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        shown.push(character);
    }
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair(&'static str, u64, &'static str);

    impl Row for Pair {
        const COLUMNS: &'static [Column] = &[
            ("NAME", Align::Flexible),
            ("SIZE", Align::Right),
            ("STATE", Align::Left),
        ];
        const OPTIONAL: &'static [&'static str] = &["STATE"];

        fn cells(&self, _now_ms: u64) -> Vec<Cell> {
            vec![
                self.0.into(),
                self.1.to_string().into(),
                Cell::new(self.2, Tone::Good),
            ]
        }
    }

    const ROWS: &[Pair] = &[
        Pair("short", 7, "ok"),
        Pair(
            "a-very-long-name-of-a-model-that-does-not-fit",
            123_456,
            "copying",
        ),
        Pair("日本語のモデル名前はここにあります", 1, "ok"),
        Pair("bad\x1b[31m\nname", 0, ""),
    ];

    #[test]
    fn a_pipe_gets_everything_uncut() {
        insta::assert_snapshot!(render(ROWS, 0, Style::PLAIN), @r#"
        NAME                                             SIZE  STATE
        short                                               7  ok
        a-very-long-name-of-a-model-that-does-not-fit  123456  copying
        日本語のモデル名前はここにあります                  1  ok
        bad\x1b[31m\nname                                   0
        "#);
    }

    #[test]
    fn a_terminal_gets_lines_that_fit() {
        let style = Style {
            width: Some(40),
            colour: false,
        };
        let text = render(ROWS, 0, style);
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        insta::assert_snapshot!(text, @r#"
        NAME                       SIZE  STATE
        short                         7  ok
        a-very-long-name-of-a-…  123456  copying
        日本語のモデル名前はこ…       1  ok
        bad\x1b[31m\nname             0
        "#);
    }

    #[test]
    fn a_narrow_terminal_does_without_a_column() {
        let style = Style {
            width: Some(30),
            colour: false,
        };
        insta::assert_snapshot!(render(ROWS, 0, style), @r#"
        NAME                      SIZE
        short                        7
        a-very-long-name-of-a…  123456
        日本語のモデル名前は…        1
        bad\x1b[31m\nname            0
        "#);
    }

    #[test]
    fn colours_do_not_change_the_layout() {
        let plain = render(
            ROWS,
            0,
            Style {
                width: Some(40),
                colour: false,
            },
        );
        let coloured = render(
            ROWS,
            0,
            Style {
                width: Some(40),
                colour: true,
            },
        );
        let mut bare = coloured;
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[32m"] {
            bare = bare.replace(code, "");
        }
        // Colour codes hide trailing blanks from trimming; nothing else may differ.
        let trimmed: Vec<&str> = bare.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
    }

    #[test]
    fn a_width_of_nothing_does_not_panic() {
        for width in 0..8 {
            let _ = render(
                ROWS,
                0,
                Style {
                    width: Some(width),
                    colour: true,
                },
            );
        }
    }
}
