"""Short varied openings that the model goes on from, written for this project."""

TEXTS = """The history of
In the early morning,
Scientists have found that
def main():
Once upon a time, there was
The city council voted
To make a good soup, first
Water boils at
The second half of the book
Dear customer,
A recent survey of
Mathematics is
She opened the door and
The train left the station
Abstract: We present
There are three kinds of
The river flows through
In 1912, the
When you plant tomatoes,
The team won
Photosynthesis is the process by which
"I never said that," he
According to the report,
The human heart
Question: What is the capital of
Step 1:
The old house on the hill
import numpy as np
Many people believe that
The price of oil
During the winter months,
It was not until the nineteenth century that
The film, directed by
Children learn best when
The law requires
A triangle with sides
Far beyond the mountains,
The company announced on Monday
Bees are
How to fix a leaking tap:
The experiment showed
Most birds
The king had two daughters.
If x is greater than
Economic growth
The patient was a
Our solar system
Music can
= Early life =
He was born in
The bridge was built
Yesterday I went to
The main difference between
A balanced diet
The species is native to
On the other side of the street
Computers store
The recipe calls for
The war ended
Language is""".splitlines()

QUESTIONS = """Why is the sky blue?
Write a short story about a lighthouse keeper.
How do I cook rice?
Explain what a prime number is.
What are the main causes of inflation?
Give me five ideas for a birthday party.
Translate "good morning" into French.
How does a refrigerator work?
What is the difference between a virus and a bacterium?
Write a Python function that reverses a string.
Summarise the plot of a well-known fairy tale.
Is it safe to drink rain water?
Who invented the telephone?
What should I see in Rome in two days?
How can I sleep better?
Write a polite letter that declines an invitation.
What is 17 times 23?
Why do leaves change colour in autumn?
What happens when you crack your knuckles?
Explain gravity to a child.
Name three large rivers and where they flow.
How do vaccines work?
What makes a good leader?
Can you tell me a joke?""".splitlines()
