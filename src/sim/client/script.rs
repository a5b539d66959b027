//! What a client does in a story instead of thinking for itself.

use super::{Client, Told};
use crate::sim::context::Context;
use crate::sim::ledger::Ledger;
use crate::sim::program::Ask;
use crate::sim::story::What;

impl Client {
    /// Makes no call of its own any more, but those of a story; or does so again.
    pub fn set_scripted(&mut self, is_scripted: bool) {
        self.is_scripted = is_scripted;
    }

    /// Makes a call of a story.
    pub fn begin(
        &mut self,
        ask: Ask,
        context: &mut Context,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if matches!(ask, Ask::Connect) {
            self.open(context);
        }
        self.told = None;
        context.calls += 1;
        let (now, clock) = (context.now, self.clock(context.now));
        let ask = self.program.ask(ask, ledger, now);
        context.story.tell(now, || What::Called { client: self.id, call: ask.name() });
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        exchange.begin(ask.as_call(), clock);
        if self.stalled_until > now { Ok(()) } else { self.drive(context, ledger) }
    }

    /// What the last call of a story brought.
    pub fn take_told(&mut self) -> Option<Told> {
        self.told.take()
    }
}
