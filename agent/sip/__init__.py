"""SIP without sockets: messages, who may call whom, and what passes between peers and workers."""
