"""What the pages of talkpath's servers share: their looks, the microphone, how words scroll."""
