//! The methods: one table, from which requests are answered and documentation is listed.

use serde::Serialize;
use serde_json::Value;
use unix_service::StopFlag;
use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_DRIVER_OK;

use super::{
    messages::*,
    metrics,
    rpc::{Params, RpcError, code, read},
};
use crate::{
    CommandError, Handle,
    logging::{LogLevel, LogLevelError},
};

/// What the methods act upon.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) handle: Handle,
    pub(super) log: LogLevel,
    /// A client's wish that the program ends.
    pub(super) stop: StopFlag,
    /// Nothing is to be begun any more.
    pub(super) end: StopFlag,
}

type Answer = Result<Value, RpcError>;

/// A method of the API, as it is called and described.
struct Method {
    name: &'static str,
    params: &'static str,
    description: &'static str,
    call: fn(&Service, Params) -> Answer,
}

/// Every method there is.
const METHODS: [Method; 17] = [
    Method {
        name: "board_get",
        params: "",
        description: "Name, state and first failure of the board.",
        call: |service, params| none(params, || Ok(service.board())),
    },
    Method {
        name: "board_power",
        params: "on: bool",
        description: "Gives the board power, or takes it away once its queues are taken back. Answers the state.",
        call: |service, params| {
            let PowerParams { on } = read(params)?;
            answer(service.handle.power(on).map(|state| StateAnswer { state }))
        },
    },
    Method {
        name: "board_reset",
        params: "",
        description: "Resets every function, as a conventional reset does. Answers the state.",
        call: |service, params| none(params, || Ok(StateAnswer { state: service.handle.reset()? })),
    },
    Method {
        name: "function_list",
        params: "",
        description: "The functions, their back ends and drivers.",
        call: |service, params| none(params, || Ok(service.handle.describe()?.functions)),
    },
    Method {
        name: "function_add",
        params: "function: object as in `[[functions]]` of a board's configuration",
        description: "Adds a function in a free place. Answers its number.",
        call: |service, params| {
            let AddParams { function } = read(params)?;
            answer(service.handle.add_function(&function).map(|function| FunctionNumber { function }))
        },
    },
    Method {
        name: "function_remove",
        params: "function: number",
        description: "Takes a function away from under its driver.",
        call: |service, params| {
            let FunctionNumber { function } = read(params)?;
            answer(service.handle.remove_function(function).map(|()| true))
        },
    },
    Method {
        name: "queue_list",
        params: "",
        description: "Every queue with its state, indices and counters, read from IO-Bond's registers.",
        call: |service, params| none(params, || service.handle.queues()),
    },
    Method {
        name: "limits_get",
        params: "",
        description: "What IO-Bond has, the rings, slots and limits of each function, and places for functions to come.",
        call: |service, params| none(params, || service.limits()),
    },
    Method {
        name: "limits_set",
        params: "function: number, limits: object (optional)",
        description: "Limits what a function may do in a second, as `limits` in a board's configuration, by the name of its device. Without `limits`, it may do what it can.",
        call: |service, params| {
            let LimitsParams { function, limits } = read(params)?;
            answer(service.handle.set_limits(function, limits).map(|()| true))
        },
    },
    Method {
        name: "statistics_get",
        params: "",
        description: "What was counted of the board and its functions.",
        call: |service, params| none(params, || Ok(BoardStatistics::from(service.handle.statistics()))),
    },
    Method {
        name: "metrics_get",
        params: "",
        description: "The same, and the queues, in Prometheus's text format.",
        call: |service, params| none(params, || Ok(Metrics { text: metrics::render(&service.handle) })),
    },
    Method {
        name: "disk_resize",
        params: "function: number, bytes: number (optional)",
        description: "Has the back end asked how large the disk is now, and the driver told. With `bytes`, only if it is just as large.",
        call: |service, params| {
            let ResizeParams { function, bytes } = read(params)?;
            answer(service.handle.resize(function, bytes))
        },
    },
    Method {
        name: "link_set",
        params: "function: number, up: bool",
        description: "Takes the link of a network function up or down.",
        call: |service, params| {
            let LinkParams { function, up } = read(params)?;
            answer(service.handle.set_link(function, up).map(|()| true))
        },
    },
    Method {
        name: "log_set_level",
        params: "level: string",
        description: "Sets the log level, or directives as in RUST_LOG. Answers what it was before.",
        call: |service, params| {
            let LogParams { level } = read(params)?;
            let before = service.log.set(&level)?;
            value(&LogAnswer { before })
        },
    },
    Method {
        name: "stop",
        params: "",
        description: "Asks the program that serves the board to stop it and to end. The answer comes before it does.",
        call: |service, params| {
            none(params, || {
                tracing::info!("a client asked for a stop");
                service.stop.set();
                Ok(true)
            })
        },
    },
    Method {
        name: "rpc_get_methods",
        params: "",
        description: "The names of all methods.",
        call: |_, params| none(params, || Ok(METHODS.map(|method| method.name))),
    },
    Method {
        name: "rpc_describe_methods",
        params: "",
        description: "All methods with what they take and do.",
        call: |_, params| none(params, || Ok(METHODS.map(|method| method.describe()))),
    },
];

impl Method {
    fn describe(&self) -> MethodDescription {
        MethodDescription {
            name: self.name.into(),
            params: self.params.into(),
            description: self.description.into(),
        }
    }
}

impl Service {
    /// Calls a method by its name. Once the server ends, what is left of a batch comes to nothing.
    pub(super) fn call(&self, name: &str, params: Params) -> Answer {
        if self.end.is_set() {
            return Err(CommandError::Ended.into());
        }
        let method = METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            let message = format!("there is no method `{shown}`; `rpc_get_methods` lists those there are");
            RpcError::new(code::METHOD_NOT_FOUND, message)
        })?;
        tracing::debug!(method = name, "called");
        (method.call)(self, params)
    }

    fn board(&self) -> Board {
        let statistics = self.handle.statistics();
        let driver_ok = VIRTIO_CONFIG_S_DRIVER_OK as u8;
        Board {
            name: statistics.board,
            state: statistics.state,
            failure: self.handle.failure().map(|failure| failure.to_string()),
            functions: statistics.functions.len(),
            drivers: statistics.functions.iter().filter(|of| of.status & driver_ok != 0).count(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn limits(&self) -> Result<Limits, CommandError> {
        let description = self.handle.describe()?;
        Ok(Limits {
            device: description.device,
            functions: description.functions.into_iter().map(FunctionLimits::from).collect(),
            free: description.free,
        })
    }
}

/// Does something that takes no parameters.
fn none<T: Serialize>(params: Params, what: impl FnOnce() -> Result<T, CommandError>) -> Answer {
    let NoParams {} = read(params)?;
    answer(what())
}

fn answer<T: Serialize>(result: Result<T, CommandError>) -> Answer {
    value(&result?)
}

fn value<T: Serialize>(result: &T) -> Answer {
    serde_json::to_value(result).map_err(|error| RpcError::new(code::INTERNAL, error.to_string()))
}

impl From<CommandError> for RpcError {
    fn from(error: CommandError) -> Self {
        let code = match error {
            CommandError::State { .. } => code::STATE,
            CommandError::NoFunction(_) => code::NO_FUNCTION,
            CommandError::WrongDevice { .. } => code::WRONG_DEVICE,
            CommandError::Size { .. } => code::SIZE,
            CommandError::NoFreePlace { .. } => code::NO_PLACE,
            CommandError::Config(_) => code::INVALID_PARAMS,
            CommandError::Failed(_) => code::FAILED,
            CommandError::Busy | CommandError::TimedOut(_) => code::NO_ANSWER,
            CommandError::Ended => code::STOPPED,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LogLevelError> for RpcError {
    fn from(error: LogLevelError) -> Self {
        let code = match error {
            LogLevelError::Filter(_) => code::INVALID_PARAMS,
            LogLevelError::Fixed => code::LOG_LEVEL,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_stands_once_and_in_the_documentation() {
        let text = include_str!("../../../docs/control.md");
        for (index, method) in METHODS.iter().enumerate() {
            assert!(!METHODS[..index].iter().any(|other| other.name == method.name), "{}", method.name);
            assert!(text.contains(&format!("### `{}`", method.name)), "{} is not described", method.name);
        }
    }
}
