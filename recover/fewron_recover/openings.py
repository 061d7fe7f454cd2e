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
Can you tell me a joke?
How do I remove a coffee stain from a shirt?
How can I keep bread fresh for longer?
How should a heavy picture be hung?
How do you sharpen a kitchen knife?
How do I stop a door from squeaking?
How can I dry wet shoes quickly?
How do you peel garlic without a knife?
What can I use instead of eggs when I bake?
How do I clean a burnt pan?
How do you fold a fitted sheet?
How can I get chewing gum out of a carpet?
How do I store potatoes so that they do not sprout?
How do you make a simple candle at home?
How do I change the tyre of a bicycle?
How can I keep cats away from my flower beds?
How do you water plants while you are on holiday?
How do I loosen a rusty bolt?
What is a good way to sort small screws?
How do you wrap a gift that is round?
How do I boil an egg so that the yolk stays soft?
How can I keep sliced apples from turning brown?
How do you paint a wall without drips?
How do I make a paper aeroplane that flies far?
How do you build a campfire that lasts?
How can I cool a room without a fan?
How do I remove a splinter?
How do you tie a knot that does not slip?
How do I get a label off a glass jar?
How do you plant a tree from a seed?
How do I keep my glasses from fogging up?
How do you melt chocolate without burning it?
How can I carry several bags at once?
How do I fix a hole in a sock?
What is the easiest way to cut a pineapple?
How do you level a table that wobbles?
How do I make a shelf from an old crate?
How can I open a jar whose lid is stuck?
How do you cook pasta so that it does not stick?
How do I clean the inside of a narrow bottle?
How do you make a bed for a dog out of old clothes?
How can I protect a wooden cutting board?
How do I get wax out of a tablecloth?
How do you drill a straight hole?
How do I make ice cubes that are clear?
How can I find a stud in a wall?
How do you keep ants out of a kitchen?
How do I whip cream by hand?
How do you pack a suitcase so that clothes do not crease?
How can I make a costume out of cardboard?
How do I sand a wooden chair?
How do you thaw frozen meat safely?
How do I unclog a sink?
How can I keep cables on a desk in order?
How do you make a bird feeder from a plastic bottle?
How do I iron a shirt with long sleeves?
How do you remove ice from a windscreen?
How can I tell whether a melon is ripe?
How do I make a mould for soap?
What should I do if oil catches fire in a pan?
How do you mix concrete for a small path?
How do I clean a leather bag?
How can I make a tent more waterproof?
How do you grind spices without a mill?
How do I glue two pieces of wood together?
What tool do you need to tighten a hexagonal bolt?
Which material should I use to keep a box warm?
What floats on water, a coin or a cork?
Which is softer, a pillow or a brick?
What happens to ice when it is put into a warm drink?
What happens to a balloon that is left in the sun?
Why does a metal spoon feel colder than a wooden one?
What would you use to cut a thick rope?
What can a paper clip be used for?
What can you do with an empty glass jar?
Which gas do animals breathe out?
What makes the moon shine?
Why are there seasons?
What causes day and night?
Which force pulls objects towards the ground?
What is the state of matter of steam?
How do fossils form?
Which energy change happens in a torch?
Why do some animals sleep through the winter?
What do a whale and a bat have in common?
How does a seed travel away from its plant?
What is a food chain?
Which rocks are made by heat and pressure?
How does erosion change a valley?
Which tool measures temperature?
Which tool measures the mass of a stone?
What is the difference between a mixture and a compound?
How does sound travel?
Why does iron rust?
What is a good conductor of electricity?
Which planet is the largest?
What are the parts of a cell?
How does the heart move blood?
What is an adaptation of a cactus?
What happens to light in a prism?
How can a farmer protect soil?
Which resource can be renewed?
What is a controlled experiment?
How do magnets act on each other?
Why do ships made of steel float?
What makes wind blow?
How is a cloud formed?
What do decomposers do?
How are traits passed on from parents?
Is a tomato a fruit?
Do all birds fly?
Can a house be older than its town?
Is there a difference between jam and jelly?
Is the name of a street the same in every city?
Are all squares rectangles?
Can you drive from Spain to Portugal?
Is a dolphin a fish?
Who wrote Romeo and Juliet?""".splitlines()

ASKED = """What
What is
What is the best way to
What happens when
What do you need to
What makes
What kind of
Which
Which of these
Which of the following is
Which of the following would
Which of the following best
How
How do
How do you
How do I
How does
How can you
How can a person
How many
How long
How to
Why
Why do
Why does
Why is it
When
When should
Where
Where do
Who
Who was
Who is
Is
Is it true that
Is there
Are
Can
Can you
Does
Do
Did
Was
Should
If
A student
A scientist
In order to
The
To""".splitlines()
"""How questions begin that the model asks itself."""
