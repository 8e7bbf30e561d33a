#![no_main]

declora_fuzz::target!("frame");
