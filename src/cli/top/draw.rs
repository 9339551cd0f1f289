//! How `top` looks: figures, pools, transfers, models, keys; less of it where the terminal is small. Without
//! colours the same is told by words and by reversed lines.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::state::State;
use crate::view::human::{duration, percent, rate, size};
use crate::view::{ModelView, TierState, TierView, TransferView};

/// In a lower terminal pools and transfers make room for models.
const ROWS_FOR_ALL: u16 = 14;
/// In a narrower one columns go.
const COLUMNS_FOR_ALL: u16 = 90;
const TRANSFERS_MAX: usize = 5;
const KEYS: &str = "p promote  d demote  i pin  c cancel  / search  s sort  q end";

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let has_room = area.height >= ROWS_FOR_ALL;
    let pools = if has_room {
        lines(state.seen.status.pools.len())
    } else {
        0
    };
    let running = state.seen.transfers.len().min(TRANSFERS_MAX);
    let transfers = if has_room { lines(running) } else { 0 };
    let [head, pool_area, transfer_area, list, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(pools),
        Constraint::Length(transfers),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(headline(state)), head);
    let shown = state.seen.status.pools.iter();
    let bars: Vec<Line<'_>> = shown
        .map(|pool| pool_line(pool, pool_area, state))
        .collect();
    frame.render_widget(Paragraph::new(bars), pool_area);
    let moving = state.seen.transfers.iter().take(TRANSFERS_MAX);
    let moving: Vec<Line<'_>> = moving
        .map(|transfer| transfer_line(transfer, state))
        .collect();
    frame.render_widget(Paragraph::new(moving), transfer_area);
    models(frame, list, state);
    frame.render_widget(Paragraph::new(footline(state)), foot);
}

fn lines(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// A style that is one only where colours are wanted.
fn tint(state: &State, colour: Color) -> Style {
    match state.colour {
        true => Style::new().fg(colour),
        false => Style::new(),
    }
}

fn headline(state: &State) -> Line<'_> {
    let status = &state.seen.status;
    if let Some(lost) = &state.lost {
        let style = tint(state, Color::Red).add_modifier(Modifier::BOLD);
        return Line::styled(format!("NOT CONNECTED, figures are old: {lost}"), style);
    }
    let warnings = match status.warnings.len() {
        0 => String::new(),
        count => format!("  warnings: {count} (speedloader status)"),
    };
    Line::from(vec![
        Span::styled("speedloader", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(
            " {}  {} models, {} resident  memory {} free of {}",
            status.mountpoint,
            status.counts.models,
            status.counts.models_resident,
            size(status.memory.available_bytes),
            size(status.memory.total_bytes),
        )),
        Span::styled(warnings, tint(state, Color::Yellow)),
    ])
}

/// A bar whose length is the pool's use, and the figures that it stands for.
fn pool_line<'l>(pool: &'l TierView, area: Rect, state: &State) -> Line<'l> {
    // Of nothing nothing can be in use.
    let out_of_use = match pool.state {
        TierState::Disconnected => Some("not connected"),
        TierState::Connecting => Some("being connected"),
        TierState::Lost => Some("does not answer"),
        TierState::Connected | TierState::Draining => None,
    };
    if let Some(word) = out_of_use.filter(|_| pool.capacity_bytes == 0) {
        return Line::raw(format!("{:<12.12} {word}", pool.name));
    }
    let figures = format!(
        " {} of {} ({} %){}",
        size(pool.used_bytes),
        size(pool.capacity_bytes),
        percent(pool.used_bytes, pool.capacity_bytes),
        match pool.draining_bytes {
            0 => String::new(),
            bytes => format!(", {} draining", size(bytes)),
        }
    );
    let width = usize::from(area.width / 3);
    let share = pool.used_bytes as f64 / pool.capacity_bytes.max(1) as f64;
    // Rounded down: a full bar is a full pool.
    let full = ((share * width as f64) as usize).min(width);
    Line::from(vec![
        Span::raw(format!("{:<12.12} ", pool.name)),
        Span::styled("#".repeat(full), tint(state, Color::Cyan)),
        Span::raw(".".repeat(width - full)),
        Span::raw(figures),
    ])
}

fn transfer_line<'l>(transfer: &'l TransferView, state: &State) -> Line<'l> {
    let left = transfer
        .eta_s
        .map_or(String::new(), |left| format!(", {} left", duration(left)));
    let name = match transfer.model.as_str() {
        "" => &transfer.file,
        model => model,
    };
    let text = format!(
        "-> {:<12.12} {:>3} %  {}{left}  {}  {name}",
        transfer.to,
        transfer.percent(),
        rate(transfer.rate_bytes_per_sec),
        transfer.state.text(),
    );
    Line::styled(text, tint(state, Color::Blue))
}

fn models(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let is_wide = area.width >= COLUMNS_FOR_ALL;
    let rows: Vec<Row<'_>> = state
        .models()
        .into_iter()
        .map(|model| row(model, is_wide, state))
        .collect();
    let mut heads = vec!["MODEL", "SIZE", "RESIDENT"];
    let mut widths = vec![
        Constraint::Min(12),
        Constraint::Length(9),
        Constraint::Length(8),
    ];
    if is_wide {
        heads.extend(["POOLS", "PINNED", "HEAT", "OPEN", "LOADED IN", "LAST LOAD"]);
        widths.extend([12, 12, 7, 4, 12, 12].map(Constraint::Length));
    }
    let table = Table::new(rows, widths)
        .header(Row::new(heads).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut place = TableState::default().with_selected(state.row());
    frame.render_stateful_widget(table, area, &mut place);
}

fn row<'l>(model: &'l ModelView, is_wide: bool, state: &State) -> Row<'l> {
    let style = match model.resident_percent {
        100.. => tint(state, Color::Cyan),
        0 => Style::new(),
        _ => tint(state, Color::Yellow),
    };
    let mut cells = vec![
        Cell::from(model.name.as_str()),
        Cell::from(size(model.size_bytes)),
        Cell::from(format!("{:>3} %", model.resident_percent)).style(style),
    ];
    if is_wide {
        let pools = model.resident_bytes.iter().filter(|(_, bytes)| **bytes > 0);
        let pools: Vec<&str> = pools.map(|(pool, _)| pool.as_str()).collect();
        cells.extend([
            Cell::from(pools.join(",")),
            Cell::from(model.pinned.as_deref().unwrap_or("")),
            Cell::from(format!("{:.2}", model.heat)),
            Cell::from(model.open.to_string()),
            Cell::from(model.loaded.join(",")),
            Cell::from(model.last_load(state.now_ms)),
        ]);
    }
    Row::new(cells)
}

fn footline(state: &State) -> Line<'_> {
    if state.is_searching {
        return Line::raw(format!("/{}_", state.search));
    }
    if !state.said.is_empty() {
        return Line::raw(format!("{}  ({KEYS})", state.said));
    }
    let search = match state.search.as_str() {
        "" => String::new(),
        text => format!("/{text}  "),
    };
    Line::raw(format!("{search}by {}  {KEYS}", state.sort.text()))
}
