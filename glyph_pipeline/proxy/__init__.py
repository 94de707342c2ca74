"""An OpenAI-compatible proxy that draws long texts of chat messages as pages when that saves tokens."""
