progenitor::generate_api!(spec = "keyward.json", interface = Builder, tags = Merged);
