//! A program that runs in the base server for as long as a test wants, and how it ended.

use rig::linux::Shell;

/// A program that runs. Its log, process id and exit code are `/tmp/NAME.log`, `.pid` and `.code` in the base
/// server.
pub struct Service {
    name: String,
}

impl Service {
    /// Starts `command`, and waits until it has said `ready`.
    pub fn start(shell: &mut Shell, name: &str, command: &str, ready: &str) -> Self {
        // In a shell of its own: of what ends there, the one at the terminal says nothing.
        shell.check(&format!(
            "({{ {command} & echo $! >/tmp/{name}.pid; wait $!; echo $? >/tmp/{name}.code; }} >/tmp/{name}.log 2>&1 &)
            until grep -q '{ready}' /tmp/{name}.log || [ -e /tmp/{name}.code ]; do usleep 20000; done"
        ));
        let service = Self { name: name.into() };
        let log = service.log(shell);
        assert!(log.contains(ready), "{command} ended: {log}");
        service
    }

    /// What it has said.
    pub fn log(&self, shell: &mut Shell) -> String {
        shell.check(&format!("cat /tmp/{}.log", self.name))
    }

    /// Ends it with SIGTERM, which it has to do in order; what it has said.
    pub fn end(self, shell: &mut Shell) -> String {
        let name = &self.name;
        let code = shell.check(&format!(
            "kill -TERM $(cat /tmp/{name}.pid); until [ -s /tmp/{name}.code ]; do usleep 20000; done; cat /tmp/{name}.code"
        ));
        let log = self.log(shell);
        assert_eq!(code.trim_end(), "0", "exit code of {name}: {log}");
        log
    }
}
