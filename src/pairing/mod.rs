//! The outbound bridge to a control plane: the gateway holds a WebSocket, and answers an allow list of admin commands.
