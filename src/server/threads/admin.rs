//! What the server does for its operator, beside serving: settings that change while it runs.

use super::Server;
use crate::server::core::Settings;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Server {
    /// Puts other settings into force.
    pub fn apply(self: &Arc<Self>, settings: Settings) {
        self.core.lock().handle_settings(settings);
        self.disk_floor.store(settings.limits.disk_floor, Ordering::Relaxed);
        self.look_at_room();
    }
}
