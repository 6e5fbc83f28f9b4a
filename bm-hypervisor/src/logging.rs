//! What the programs write to standard error, and how much of it; the latter can be changed while they run.

use std::{
    fmt,
    io::{self, IsTerminal},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Longest filter that [`LogLevel::set`] takes, in bytes.
const LONGEST: usize = 256;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Text,
    /// A JSON object, for programs.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not a log format; expected `text` or `json`")),
        }
    }
}

/// Starts to log to standard error, as environment variable `RUST_LOG` says, or else at `level`. Once in a
/// program, by its `main`; a second call changes nothing, and what it returns has no effect.
pub fn start(format: LogFormat, level: tracing::Level) -> LogLevel {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let said = filter.to_string();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // Fails only when the program logs already.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    LogLevel::of(handle, said)
}

/// Puts a filter in place of the one there is.
type Set = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

/// How much a program logs. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    /// None if the program does not let it be changed.
    set: Option<Arc<Set>>,
    said: Arc<Mutex<String>>,
}

/// A level that was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogLevelError {
    /// The text is neither a level nor a list of directives.
    #[error(
        "`{0}` is not a log level; expected off, error, warn, info, debug, trace, or directives such as `info,bm_hypervisor=debug`"
    )]
    Filter(String),
    /// The program logs in a way of its own.
    #[error("the log level of this program is fixed")]
    Fixed,
}

impl LogLevel {
    /// The level behind a `tracing-subscriber` reload handle, for a program that sets its log up itself;
    /// `said` is the present one.
    pub fn of<S: 'static>(handle: reload::Handle<EnvFilter, S>, said: String) -> Self {
        let set = move |filter| handle.reload(filter);
        Self { set: Some(Arc::new(set)), said: Arc::new(Mutex::new(said)) }
    }

    /// The level of a program that does not let it be changed.
    pub fn fixed() -> Self {
        Self { set: None, said: Arc::default() }
    }

    /// Sets it to a level, or to directives as in `RUST_LOG`; what it was before.
    ///
    /// # Errors
    /// [`LogLevelError`]; nothing has changed then.
    pub fn set(&self, text: &str) -> Result<String, LogLevelError> {
        let wrong = || LogLevelError::Filter(text.chars().take(LONGEST).collect());
        // A word alone would be taken for the name of a module that logs everything.
        // (And nothing at all for `error`.)
        let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        let known = |part: &str| part.contains('=') || is_level(part);
        if text.len() > LONGEST || !text.split(',').all(known) {
            return Err(wrong());
        }
        let filter = EnvFilter::builder().parse(text).map_err(|_| wrong())?;
        let set = self.set.as_ref().ok_or(LogLevelError::Fixed)?;
        set(filter).map_err(|_| LogLevelError::Fixed)?;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *said, text.into()))
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLevel").field("fixed", &self.set.is_none()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_taken_and_nothing_else() {
        let (_layer, handle) = reload::Layer::<_, tracing_subscriber::Registry>::new(EnvFilter::new("warn"));
        let level = LogLevel::of(handle.clone(), "warn".into());
        assert_eq!(level.set("debug"), Ok("warn".into()));
        assert_eq!(level.set("info,bm_hypervisor=trace"), Ok("debug".into()));
        assert_eq!(handle.clone_current().unwrap().to_string(), "bm_hypervisor=trace,info");
        for wrong in ["", "loud", "info,loud", "a=loud", &"a=info,".repeat(99)] {
            assert!(matches!(level.set(wrong), Err(LogLevelError::Filter(_))), "{wrong}");
        }
        assert_eq!(level.set("off"), Ok("info,bm_hypervisor=trace".into()));
        assert_eq!(LogLevel::fixed().set("info"), Err(LogLevelError::Fixed));
    }
}
